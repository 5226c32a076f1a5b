"""What the operator sets for the API, from the environment."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field, FilePath, NonNegativeFloat, PositiveFloat, PositiveInt
from pydantic_settings import BaseSettings, SettingsConfigDict


class ApiSettings(BaseSettings):
    """Settings of `difuso api`; the environment variable is DIFUSO_ and the name, but for REDIS_URL."""

    model_config = SettingsConfigDict(env_prefix="DIFUSO_", frozen=True, populate_by_name=True)

    host: str = "127.0.0.1"
    """Address that the API listens on."""
    port: int = Field(8000, ge=0, le=65535)
    """Port that the API listens on."""
    redis_url: str = Field("redis://127.0.0.1:6379/0", validation_alias="REDIS_URL")
    redis_password_file: FilePath | None = None
    """File that holds the password of that Redis; better than one in the URL, which other programs may see."""
    models_dir: Path = Path("checkpoints")
    """Folder of checkpoints; the API reads their config files only."""
    store_url: str = "var/store"
    """Where pictures, manifests and snapshots go: a folder or any fsspec URL, the same for every process."""
    result_ttl: PositiveInt = 86400
    """Seconds that pictures are kept."""
    max_wait: PositiveFloat = 600
    """Seconds; a request that would wait longer for its turn is refused with 429."""
    max_jobs: PositiveInt = 1000
    """Unfinished jobs that a model may have; what limits the queue while no worker has measured its speed."""
    sync_wait: NonNegativeFloat = 300
    """Seconds that a POST waits for its pictures at most before it answers 202."""
    max_body: PositiveInt = 65536
    """Bytes of a request body at most, where no pictures are sent."""
    max_upload: PositiveInt = 8388608
    """Bytes of a request body with pictures at most."""
