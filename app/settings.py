"""The settings of the API, from the environment."""

import ipaddress
from pathlib import Path
from typing import Annotated, ClassVar

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    NonNegativeFloat,
    PositiveFloat,
    PositiveInt,
    ValidationInfo,
    field_validator,
)
from pydantic_settings import NoDecode

from difuso.jobs.settings import SharedSettings, listed, matching

from .http.api_keys import read_keys
from .prices import Prices
from .webhooks.hosts import HOSTS
from .webhooks.signing import read_secrets

LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "[::1]"})

# As browsers write it: without a path, and without the default port.
ORIGIN = matching(
    r"https?://([a-z0-9.-]+|\[[0-9a-f:.]+\])(:[0-9]{1,5})?", "origins without a path, such as https://pics.example"
)


def _readable_keys(path: Path) -> Path:
    read_keys(path)
    return path


def _readable_secrets(path: Path) -> Path:
    read_secrets(path)
    return path


def is_loopback(host: str) -> bool:
    """Returns whether an address to listen on is reachable from this machine only."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


class ApiSettings(SharedSettings):
    """Settings of `difuso api`."""

    whole_models: ClassVar[bool] = False  # configs, cards, and the heads of weights are enough

    api_keys_file: Annotated[Path, AfterValidator(_readable_keys)] | None = None
    """File of API keys, read again when it changes; without it everybody who reaches the port may do everything."""
    insecure: bool = False
    """Whether the API may listen beyond this machine without API keys."""
    host: str = "127.0.0.1"
    """Address that the API listens on."""
    port: int = Field(8000, ge=0, le=65535)
    """Port that the API listens on."""
    front_ends: PositiveInt = 1
    """Number of processes that share the port."""
    api_metrics_port: int | None = Field(None, ge=1, le=65535)
    """Port of /metrics, which needs no API key; by default /metrics is on the API's port, and guarded by the keys."""
    allowed_hosts: Annotated[frozenset[str], NoDecode] | None = None
    """Host names that requests may name; by default all, or loopback names for an API on loopback without keys."""
    cors_origins: Annotated[frozenset[Annotated[str, ORIGIN]], NoDecode] | None = None
    """Other origins whose pages may use the API, such as https://pics.example."""
    max_wait: PositiveFloat = 600
    """Longest wait for a turn, in seconds; a request that would wait longer is refused with 429."""
    max_jobs: PositiveInt = 1000
    """Most unfinished jobs of a model; this limits the queue while no worker has measured its speed."""
    sync_wait: NonNegativeFloat = 300
    """Longest time that a POST waits for its images before 202 is answered, in seconds."""
    max_upload: PositiveInt = 8388608
    """Most bytes of a request body."""

    prices: Annotated[Prices | None, NoDecode, BeforeValidator(Prices.read)] = None
    """Prices of what keys use, in any unit, which /usage multiplies: image=2 device_second=0.1."""
    webhook_hosts: Annotated[frozenset[Annotated[str, HOSTS]], NoDecode] = frozenset()
    """Hosts that webhooks may call, such as *.example.com, and networks, such as 10.0.0.0/8; by default none."""
    webhook_secret_file: Annotated[Path, AfterValidator(_readable_secrets)] | None = None
    """File with the secret that signs webhooks, where the line of an API key has none."""
    training: bool = False
    """Whether the API takes datasets, pictures to train on, and trainings."""
    max_dataset: PositiveInt = 1 << 30
    """Most bytes of a dataset that is sent; an owner may keep four times as many."""
    dataset_ttl: PositiveInt = 2592000
    """Seconds that a dataset is kept, and a training that has ended."""

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

    @field_validator("allowed_hosts", "cors_origins", "webhook_hosts", mode="before")
    @classmethod
    def _split(cls, names: object) -> object:
        return listed(names.lower() if isinstance(names, str) else names)

    @property
    def hosts(self) -> frozenset[str] | None:
        """Host names, without ports, that requests may name; None for all."""
        if self.allowed_hosts is None and self.api_keys_file is None and is_loopback(self.host):
            return LOOPBACK_NAMES
        return self.allowed_hosts
