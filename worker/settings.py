"""What the operator sets for a worker, from the environment."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field, FilePath, PositiveInt
from pydantic_settings import BaseSettings, SettingsConfigDict


class WorkerSettings(BaseSettings):
    """Settings of `difuso worker`; the environment variable is DIFUSO_ and the name, but for REDIS_URL."""

    model_config = SettingsConfigDict(env_prefix="DIFUSO_", frozen=True, populate_by_name=True)

    redis_url: str = Field("redis://127.0.0.1:6379/0", validation_alias="REDIS_URL")
    redis_password_file: FilePath | None = None
    """File that holds the password of that Redis; better than one in the URL, which other programs may see."""
    models_dir: Path = Path("checkpoints")
    """Folder of checkpoints; all that load are served."""
    store_url: str = "var/store"
    """Where pictures, manifests and snapshots go: a folder or any fsspec URL, the same for every process."""
    result_ttl: PositiveInt = 86400
    """Seconds that pictures are kept."""
    device: str = "auto"
    """`cpu`, `cuda`, `cuda:1`, `mps`; `auto` takes the first GPU, else the CPU."""
    slots: PositiveInt | None = None
    """Images in one network call at most; by default 16 on a CPU and 32 on a GPU."""
    exact: bool = True
    """Use only batch sizes that give the same bits, so that a picture never depends on its neighbours."""
    drain_seconds: PositiveInt = 20
    """After SIGTERM, jobs that end within this time are finished and the others handed to the next worker."""
    metrics_port: int | None = Field(None, ge=1, le=65535)
    """Port of the worker's own /metrics; none by default."""
    log_format: Literal["text", "json"] = "text"
    """How log lines are written: for people, or one JSON object each."""
    log_level: Literal["debug", "info", "warning"] = "info"
    """The least urgent log lines that are written."""
