"""The place where a model draws: here, or on a server."""

from pathlib import Path

from difuso.model.folders.config import Precision
from difuso.worker.settings import WorkerSettings

from ..errors import UserError, user_errors
from ..models_folder import usable_models
from ..options import read_settings
from .drawing import DrawingModel, LocalModel, load_runner
from .remote_drawing import served_model


def find_drawing_model(
    name: str | None,
    server: str | None,
    *,
    models_dir: Path | None = None,
    tag: str | None = None,
    precision: Precision | None = None,
) -> DrawingModel:
    """Finds a model by its name; None means the first, or the server's default.

    Args:
        server: the address of a server that draws; None means that this machine draws.
        models_dir: the folder of checkpoints of this machine; None is that of the settings.
        tag: the tag of a server's jobs.
        precision: the number format of the network here; None is that of the settings.

    Raises UserError if there is no such model, or the server refuses to answer or should compute in another format.
    """
    if server is not None:
        if precision is not None:
            raise UserError("a server computes in its own number format: leave out --precision")
        return served_model(name, server, tag=tag)
    settings = read_settings(WorkerSettings, models_dir=models_dir)
    if precision is not None:
        settings = settings.model_copy(update={"precision": precision})
    with user_errors():
        info = usable_models(settings.models_dir).choose(name)
    return LocalModel(info, lambda: load_runner(info.folder, settings))
