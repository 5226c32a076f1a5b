"""The secrets that sign webhooks, and their signatures: https://www.standardwebhooks.com has both."""

import base64
import binascii
import hmac
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator

PREFIX = "whsec_"
SECRET_BYTES = range(24, 65)


def secret_of(text: str) -> bytes:
    """Returns the bytes of a secret, which is base64 after a prefix; raises ValueError if it is not a good one."""
    try:
        secret = base64.b64decode(text.removeprefix(PREFIX), validate=True)
    except binascii.Error:
        secret = b""
    if len(secret) not in SECRET_BYTES:
        raise ValueError(f"a secret is {PREFIX} and 24 to 64 random bytes in base64, such as `openssl rand -base64 32`")
    return secret


def _checked(text: str) -> str:
    secret_of(text)
    return text


SecretText = Annotated[str, AfterValidator(_checked)]


def read_secrets(path: Path) -> list[str]:
    """Returns the secrets of a file, one on each line; raises ValueError if it cannot be read, or one is wrong."""
    try:
        texts = path.read_text(encoding="utf-8").split()
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} cannot be read ({type(error).__name__})") from error
    if not texts:
        raise ValueError(f"there is no secret in {path}")
    return list(map(_checked, texts))


def signature(secret: str, message_id: str, timestamp: int, body: bytes) -> str:
    """Returns the signature of a message at a time in seconds since the epoch."""
    digest = hmac.digest(secret_of(secret), f"{message_id}.{timestamp}.".encode() + body, "sha256")
    return f"v1,{base64.b64encode(digest).decode()}"
