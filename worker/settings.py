"""The settings of a worker, read from the environment."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import ByteSize, Field, PositiveInt, field_validator
from pydantic_settings import NoDecode

from difuso.jobs.settings import MODEL, MODULE, SharedSettings, listed, matching
from difuso.model.folders.config import Precision

DEVICE = matching(r"auto|cpu|mps|cuda(:(0|[1-9][0-9]?))?", "auto, cpu, mps, cuda or cuda:N")

# The last seconds of a worker, after those of its drain. It waits for Redis and the store, then gives up, and if even
# that hangs is ended where it stands. One that has drained has a while for the threads that it no longer needs.
GIVE_UP_SECONDS, HANG_SECONDS, EXIT_SECONDS = 5.0, 1.0, 5.0


class DeviceMissing(Exception):
    """Torch cannot use the device of DIFUSO_DEVICE here; the message says what to do."""


class WorkerSettings(SharedSettings):
    """The settings of `difuso worker`."""

    device: Annotated[str, DEVICE] = "auto"
    """`cpu`, `cuda`, `cuda:1`, `mps`; `auto` takes the first GPU, else the CPU."""
    core_folder: Path | None = None
    """Folder in which two workers for two cores show each other when they have work; `difuso serve` sets it."""
    precision: Precision | Literal["model"] = "model"
    """Number format in which networks are computed: `float32`, `bfloat16`, `tf32`, or what each `model` says."""
    models: Annotated[frozenset[Annotated[str, MODEL]], NoDecode] = frozenset()
    """Models that the worker loads and claims jobs of; by default all but those of `pools`."""
    slots: PositiveInt | None = None
    """Largest number of images in one network call; by default the one beyond which more give no more images per
    second, which each worker measures when it loads a model: at most 16 on a CPU and 32 on a GPU."""
    exact: bool = True
    """Whether only batch sizes that give the same bits are used, so that an image never depends on its neighbours."""
    drain_seconds: PositiveInt = 20
    """Seconds after SIGTERM in which jobs may end; the others are handed to the next worker."""
    store_wait: PositiveInt = 600
    """Seconds that a finished job waits for a result store that takes no files; then it fails."""
    models_memory: Annotated[ByteSize, Field(gt=0)] | None = None
    """Most bytes of weights that are loaded at a time, such as 8GB: models are loaded when they have jobs, and the one
    that was not used for longest is unloaded. By default all models are loaded."""
    preload: Annotated[frozenset[Annotated[str, MODEL]], NoDecode] = frozenset()
    """Models that are loaded first and never unloaded."""
    version_wait: PositiveInt = 600
    """Seconds that a job waits for a version of its model, or of difuso, that no live worker of the model has."""
    networks: Annotated[frozenset[Annotated[str, MODULE]], NoDecode] = frozenset()
    """Modules of other packages whose networks and training functions may be imported, with all below: mylab.nets."""
    metrics_port: int | None = Field(None, ge=1, le=65535)
    """Port of the worker's own /metrics; none by default."""

    _split = field_validator("models", "networks", "preload", mode="before")(listed)

    def serves(self, model: str) -> bool:
        """Whether this process serves a model."""
        return model in self.models if self.models else model not in self.pools
