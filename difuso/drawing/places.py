"""The place where a model draws: here, or on a server."""

from difuso.worker.settings import WorkerSettings

from ..errors import user_errors
from ..models_folder import models_folder, usable_models
from ..options import read_settings
from .drawing import DrawingModel, LocalModel, load_runner
from .remote_drawing import served_model


def find_drawing_model(
    name: str | None,
    server: str | None,
    *,
    models_dir: str | None = None,
    tag: str | None = None,
) -> DrawingModel:
    """Finds a model by its name; None means the first, or the server's default.

    Args:
        server: the address of a server that draws; None means that this machine draws.
        models_dir: the folder or address of models; None is that of the settings.
        tag: the tag of a server's jobs.

    Raises UserError if there is no such model, or the server refuses to answer.
    """
    if server is not None:
        return served_model(name, server, tag=tag)
    settings = read_settings(WorkerSettings, models_dir=models_dir)
    with user_errors():
        info = usable_models(models_folder(settings)).choose(name)
    return LocalModel(info, lambda: load_runner(info.path, settings))
