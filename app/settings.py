"""What the operator sets for the API, from the environment."""

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


def _readable_keys(path: Path) -> Path:
    read_keys(path)
    return path


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches an address to listen on."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


class ApiSettings(BaseSettings):
    """Settings of `difuso api`; the environment variable is DIFUSO_ and the name, but for REDIS_URL."""

    model_config = SettingsConfigDict(env_prefix="DIFUSO_", frozen=True, populate_by_name=True)

    api_keys_file: Annotated[Path, AfterValidator(_readable_keys)] | None = None
    """File of API keys; without it whoever reaches the port may do everything."""
    insecure: bool = False
    """Lets the API listen beyond this machine without API keys."""
    host: str = "127.0.0.1"
    """Address that the API listens on."""
    port: int = Field(8000, ge=0, le=65535)
    """Port that the API listens on."""
    api_metrics_port: int | None = Field(None, ge=1, le=65535)
    """Port of /metrics, open to whoever reaches it; by default /metrics is on the API's port, guarded as the rest."""
    allowed_hosts: Annotated[frozenset[str], NoDecode] | None = None
    """Names that requests may be addressed to; by default all, but without keys on the loopback only those of that."""
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
    log_format: Literal["text", "json"] = "text"
    """How log lines are written: for people, or one JSON object each."""
    log_level: Literal["debug", "info", "warning"] = "info"
    """The least urgent log lines that are written; `debug` has a line for each request that only reads."""

    @field_validator("host")
    @classmethod
    def _is_guarded(cls, host: str, info: ValidationInfo) -> str:
        """Whoever opens the port to others decides who they are."""
        has_keys = info.data.get("api_keys_file", True) is not None  # keys that cannot be read are told of already
        if has_keys or info.data.get("insecure") or is_loopback(host):
            return host
        raise ValueError(
            f"without API keys everybody who reaches {host or 'all addresses'} could use this server: set "
            "DIFUSO_API_KEYS_FILE, or DIFUSO_INSECURE=true where something else keeps strangers away"
        )

    @field_validator("allowed_hosts", mode="before")
    @classmethod
    def _split(cls, hosts: object) -> object:
        return hosts.replace(",", " ").lower().split() if isinstance(hosts, str) else hosts

    @property
    def hosts(self) -> frozenset[str] | None:
        """Names that requests may be addressed to; None for all."""
        if self.allowed_hosts is None and self.api_keys_file is None and is_loopback(self.host):
            return LOOPBACK_NAMES
        return self.allowed_hosts
