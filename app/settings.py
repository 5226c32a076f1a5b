"""The settings of the API, from the environment."""

from __future__ import annotations

import ipaddress
from pathlib import Path
from typing import Annotated, Literal

from pydantic import (
    AfterValidator,
    Field,
    FilePath,
    NonNegativeFloat,
    PositiveFloat,
    PositiveInt,
    ValidationInfo,
    field_validator,
)
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from .api_keys import read_keys

LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "[::1]"})


# As browsers write it: without a path, and without the default port.
Origin = Annotated[str, Field(pattern=r"^https?://([a-z0-9.-]+|\[[0-9a-f:.]+\])(:[0-9]{1,5})?$")]


def _readable_keys(path: Path) -> Path:
    read_keys(path)
    return path


def is_loopback(host: str) -> bool:
    """Returns whether an address to listen on is reachable from this machine only."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


class ApiSettings(BaseSettings):
    """Settings of `difuso api`; except for REDIS_URL, each environment variable is DIFUSO_ and the name."""

    model_config = SettingsConfigDict(env_prefix="DIFUSO_", frozen=True, populate_by_name=True)

    api_keys_file: Annotated[Path, AfterValidator(_readable_keys)] | None = None
    """File of API keys; without it everybody who reaches the port may do everything."""
    insecure: bool = False
    """Whether the API may listen beyond this machine without API keys."""
    host: str = "127.0.0.1"
    """Address that the API listens on."""
    port: int = Field(8000, ge=0, le=65535)
    """Port that the API listens on."""
    api_metrics_port: int | None = Field(None, ge=1, le=65535)
    """Port of /metrics, which needs no API key; by default /metrics is on the API's port, and guarded by the keys."""
    allowed_hosts: Annotated[frozenset[str], NoDecode] | None = None
    """Host names that requests may name; by default all, or loopback names for an API on loopback without keys."""
    cors_origins: Annotated[frozenset[Origin], NoDecode] | None = None
    """Other origins whose pages may use the API, such as https://pics.example."""
    redis_url: str = Field("redis://127.0.0.1:6379/0", validation_alias="REDIS_URL")
    """URL of the Redis that holds the queue."""
    redis_password_file: FilePath | None = None
    """File with the password of Redis; safer than a password in the URL, which other programs may see."""
    models_dir: Path = Path("checkpoints")
    """Folder of checkpoints; the API reads their config files only."""
    default_model: str | None = None
    """Model of requests that name none; by default the first by name that needs no image."""
    store_url: str = "var/store"
    """Folder or fsspec URL of images, manifests and snapshots; the same for every process."""
    result_ttl: PositiveInt = 86400
    """Time that images are kept, in seconds."""
    max_wait: PositiveFloat = 600
    """Longest wait for a turn, in seconds; a request that would wait longer is refused with 429."""
    max_jobs: PositiveInt = 1000
    """Most unfinished jobs of a model; this limits the queue while no worker has measured its speed."""
    sync_wait: NonNegativeFloat = 300
    """Longest time that a POST waits for its images before 202 is answered, in seconds."""
    max_body: PositiveInt = 65536
    """Most bytes of a request body without images."""
    max_upload: PositiveInt = 8388608
    """Most bytes of a request body with images."""
    log_format: Literal["text", "json"] = "text"
    """Format of log lines: text for people, or one JSON object per line."""
    log_level: Literal["debug", "info", "warning"] = "info"
    """Lowest level of log lines that are written; `debug` includes requests that only read and succeed."""

    @field_validator("host")
    @classmethod
    def _is_guarded(cls, host: str, info: ValidationInfo) -> str:
        """Refuses an address that other machines reach, unless there are API keys or the operator insists."""
        has_keys = info.data.get("api_keys_file", True) is not None  # absent if the file is invalid, an error already
        if has_keys or info.data.get("insecure") or is_loopback(host):
            return host
        raise ValueError(
            f"without API keys everybody who reaches {host or 'all addresses'} could use this server: set "
            "DIFUSO_API_KEYS_FILE, or set DIFUSO_INSECURE=true if a proxy or firewall protects this server"
        )

    @field_validator("allowed_hosts", "cors_origins", mode="before")
    @classmethod
    def _split(cls, names: object) -> object:
        return names.replace(",", " ").lower().split() if isinstance(names, str) else names

    @property
    def hosts(self) -> frozenset[str] | None:
        """Host names, without ports, that requests may name; None for all."""
        if self.allowed_hosts is None and self.api_keys_file is None and is_loopback(self.host):
            return LOOPBACK_NAMES
        return self.allowed_hosts
