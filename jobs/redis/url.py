"""The URL of Redis with a password from a file, which neither `ps` nor `docker inspect` shows."""

from pathlib import Path
from urllib.parse import quote, urlsplit, urlunsplit


def with_password(url: str, file: Path | None) -> str:
    """Returns the URL with the content of the file as its password, or unchanged without a file.

    Raises:
        OSError: if the file cannot be read.
    """
    if file is None:
        return url
    parts = urlsplit(url)
    credentials, _, host = parts.netloc.rpartition("@")
    user, password = credentials.partition(":")[0], quote(file.read_text(encoding="utf-8").strip(), safe="")
    return urlunsplit(parts._replace(netloc=f"{user}:{password}@{host}"))
