"""The settings that front ends and workers share, read from the environment, and their default folders."""

import hashlib
import re
from pathlib import Path
from typing import Annotated, ClassVar, Literal
from urllib.parse import quote, urlsplit, urlunsplit

from platformdirs import user_state_path
from pydantic import AfterValidator, BeforeValidator, ByteSize, Field, FilePath, PositiveInt, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from difuso.model.formats.folders import holds_config

from .params import MODEL_NAME

CHECKPOINTS = Path("checkpoints")
SHIPPED = Path(__file__).with_name("shipped")  # links to what lies in checkpoints/, which a wheel holds as files
CLONE = Path(__file__).resolve().parents[1]  # site-packages, where a wheel is installed


def default_models_dir() -> Path:
    """Returns ./checkpoints, or the models that come with difuso if no model lies there."""
    there = CHECKPOINTS.is_dir() and any(holds_config(path) for path in CHECKPOINTS.iterdir())
    return CHECKPOINTS if there else SHIPPED


def default_state_dir() -> Path:
    """Returns var/ of the running clone if the working directory is in it, else the platform's folder for state."""
    if (CLONE / "pyproject.toml").is_file() and Path.cwd().is_relative_to(CLONE):
        return CLONE / "var"
    return user_state_path("difuso", appauthor=False)


def _redis_url(url: str) -> str:
    from .redis.addresses import connect  # here, because few commands need it

    connect(url).close()  # which connects to nothing
    return url


def place_of_models(place: object) -> object:
    """Returns the address of a bucket as a text, and any other text as the path of a folder."""
    if not isinstance(place, str):
        return place
    if place.startswith(("http://", "https://")):
        raise ValueError(f"must be a folder, or the address of a bucket such as s3://bucket/models, not {place}")
    return place.rstrip("/") if "://" in place else Path(place)


def listed(names: object) -> object:
    """Returns the names in a variable that separates them by commas or spaces, before they are checked."""
    return names.replace(",", " ").split() if isinstance(names, str) else names


def matching(pattern: str, wanted: str) -> AfterValidator:
    """Returns a check that a text has a pattern; the message of its ValueError says what is `wanted`."""

    def check(text: str) -> str:
        if not re.fullmatch(pattern, text):
            raise ValueError(f"must be {wanted}, not {text!r}")
        return text

    return AfterValidator(check)


MODEL = matching(MODEL_NAME, "names of models, separated by commas")
MODULE = matching(r"[^\W\d]\w*(\.[^\W\d]\w*)*", "names of modules such as mylab.nets, separated by commas")


class SharedSettings(BaseSettings):
    """The settings of every process of one installation. Except for REDIS_URL, a variable is DIFUSO_ and the name."""

    model_config = SettingsConfigDict(env_prefix="DIFUSO_", frozen=True, populate_by_name=True)

    redis_url: Annotated[str, AfterValidator(_redis_url)] = Field(
        "redis://127.0.0.1:6379/0", validation_alias="REDIS_URL"
    )
    """URL of the Redis that holds the queue."""
    redis_password_file: FilePath | None = None
    """File with the password of Redis; safer than a password in the URL, which other programs may see."""
    state_dir: Path = Field(default_factory=default_state_dir)
    """Folder of what difuso keeps on this machine: var/ of the clone that one stands in, else the platform's folder for
    the state of the user's programs."""
    models_dir: Annotated[str | Path, BeforeValidator(place_of_models)] = Field(default_factory=default_models_dir)
    """Folder of models: ./checkpoints, or without a model there that of the models that come with difuso. A worker
    serves all that it can load; the API reads their config files only. Or the address where `difuso push` puts them."""
    cache_size: Annotated[ByteSize, Field(gt=0)] = ByteSize(20 << 30)
    """Most bytes of the models of an address that are kept on this machine, such as 20GB; those that are served stay in
    any case."""
    trained_dir: Path = Field(default_factory=lambda given: Path(given["state_dir"]) / "trained")
    """Folder of the models that trainers make, which are served beside those of `models_dir`."""
    default_model: str | None = None
    """Model of requests that name none, by default the first by name that needs no image. A worker loads it first."""
    pools: Annotated[frozenset[Annotated[str, MODEL]], NoDecode] = frozenset()
    """Models with workers of their own (`DIFUSO_MODELS`), which are started when they have jobs; others leave them."""
    store_url: str = Field(default_factory=lambda given: str(given["state_dir"] / "store"))
    """Folder or fsspec URL of images, manifests and snapshots; the same for every process."""
    result_ttl: PositiveInt = 86400
    """Time that images are kept, in seconds."""
    plugins: Annotated[frozenset[Annotated[str, MODULE]], NoDecode] = frozenset()
    """Modules of other packages with samplers and schedules, which every process imports at its start: mylab.rows."""
    log_format: Literal["text", "json"] = "text"
    """Format of log lines: text for people, or one JSON object per line."""
    log_level: Literal["debug", "info", "warning"] = "info"
    """Lowest level of log lines that are written; `debug` includes requests that only read and succeed."""

    whole_models: ClassVar[bool] = True  # whether weights are fetched from an address

    @property
    def models_address(self) -> str | None:
        """The address of the models; None if they lie in a folder."""
        return self.models_dir if isinstance(self.models_dir, str) else None

    @property
    def cache_dir(self) -> Path:
        """The folder of what was fetched from addresses of models; see `mirror`."""
        return self.state_dir / "cache"

    @property
    def models_dirs(self) -> tuple[Path, Path]:
        """The folders of the models that are served; the first may be the mirror of an address."""
        if isinstance(self.models_dir, Path):
            return self.models_dir, self.trained_dir
        name = hashlib.sha256(self.models_dir.encode()).hexdigest()[:16]
        return self.cache_dir / (name if self.whole_models else f"{name}-heads"), self.trained_dir

    @property
    def models_place(self) -> str:
        """The address or folder of the models, for people."""
        return self.models_address or str(Path(self.models_dir).absolute())

    _split_shared = field_validator("plugins", "pools", mode="before")(listed)


def with_password(url: str, file: Path | None) -> str:
    """Returns the URL with the content of the file as its password, or unchanged without a file.

    Raises OSError if the file cannot be read.
    """
    if file is None:
        return url
    parts = urlsplit(url)
    credentials, _, host = parts.netloc.rpartition("@")
    user, password = credentials.partition(":")[0], quote(file.read_text(encoding="utf-8").strip(), safe="")
    return urlunsplit(parts._replace(netloc=f"{user}:{password}@{host}"))
