"""The keys file, and what the settings make of it."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from pydantic import ValidationError

from difuso.app.http.api_keys import KeyRing, may_see, new_key, read_keys
from difuso.app.settings import LOOPBACK_NAMES, ApiSettings
from difuso.jobs.redis.limits import Limits

DIGEST = hashlib.sha256(b"secret").hexdigest()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "keys"


def test_a_new_key_is_found_under_its_line_and_not_in_it(file: Path) -> None:
    key, line = new_key("alice")
    file.write_text(f"{line}\n")
    (read,) = read_keys(file)
    assert read.sha256 == hashlib.sha256(key.encode()).hexdigest()
    assert key not in line
    assert new_key("alice")[0] != key


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("alice", "line 1"),
        (f"alice {DIGEST.upper()}", "sha256"),
        ("alice secret", "sha256"),
        (f"../alice {DIGEST}", "name"),
        (f"alice {DIGEST} rate=-1", "rate"),
        (f"alice {DIGEST} unfinished=many", "unfinished"),
        (f"alice {DIGEST} speed=1", "speed"),
        (f"alice {DIGEST} role=admin", "role"),
        (f"alice {DIGEST} role", "role"),
        (f"alice {DIGEST}\nbob {DIGEST}", "twice"),
        ("# nobody", "no key"),
    ],
)
def test_a_wrong_line_is_named_and_not_repeated(file: Path, line: str, why: str) -> None:
    file.write_text(line)
    with pytest.raises(ValueError, match=why) as refused:
        read_keys(file)
    assert "secret" not in str(refused.value)
    with pytest.raises(ValidationError, match="keys"):
        ApiSettings(api_keys_file=file)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "", "192.0.2.1", "example.org"])
def test_beyond_this_machine_it_takes_keys_or_a_clear_word(host: str, file: Path) -> None:
    with pytest.raises(ValidationError, match="DIFUSO_INSECURE"):
        ApiSettings(host=host)
    file.write_text(f"alice {DIGEST}")
    assert ApiSettings(host=host, api_keys_file=file).hosts is None
    assert ApiSettings(host=host, insecure=True).hosts is None


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost", "127.1.2.3"])
def test_on_this_machine_it_is_open_under_names_of_this_machine(host: str) -> None:
    assert ApiSettings(host=host).hosts == LOOPBACK_NAMES


def test_names_are_listed_with_commas_or_spaces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DIFUSO_ALLOWED_HOSTS", "Pictures.example.org, localhost")
    assert ApiSettings().hosts == frozenset({"pictures.example.org", "localhost"})


def line(name: str) -> str:
    return f"{name} {hashlib.sha256(name.encode()).hexdigest()}\n"


def names(ring: KeyRing) -> list[str]:
    return [key.name for key in ring.keys]


def test_a_ring_takes_what_stays_in_the_file(file: Path) -> None:
    file.write_text(line("alice"))
    ring = KeyRing(file)
    file.write_text(line("bob"))  # and the rest is still to come
    ring.look()
    assert names(ring) == ["alice"]
    file.write_text(line("bob") + line("carol"))
    ring.look()
    assert names(ring) == ["alice"]
    ring.look()
    assert names(ring) == ["bob", "carol"]


def test_a_ring_follows_a_secret_of_kubernetes(tmp_path: Path) -> None:
    """The file is a link into a folder that is a link itself, and only the second is replaced."""

    def publish(version: str, content: str) -> None:
        (tmp_path / version).mkdir()
        (tmp_path / version / "keys").write_text(content)
        (tmp_path / "new").symlink_to(version)
        (tmp_path / "new").replace(tmp_path / "..data")

    publish("..1", line("alice"))
    file = tmp_path / "keys"
    file.symlink_to("..data/keys")
    ring = KeyRing(file)
    publish("..2", line("bobby"))
    shutil.rmtree(tmp_path / "..1")
    ring.look()
    ring.look()
    assert names(ring) == ["bobby"]


@pytest.mark.parametrize(
    "spoil",
    [
        lambda file: file.unlink(),
        lambda file: file.write_text(""),
        lambda file: file.write_text("# all keys are withdrawn\n"),
        lambda file: file.write_text(line("bob") + "carol secret\n"),
        lambda file: file.write_bytes(b"\xff\x00"),
        lambda file: (file.unlink(), file.mkdir()),
        lambda file: (file.unlink(), file.symlink_to(file)),
    ],
    ids=["gone", "empty", "no key", "wrong line", "no text", "folder", "loop"],
)
def test_the_keys_of_before_stay_while_the_file_is_spoiled(
    file: Path, spoil: Callable[[Path], object], caplog: pytest.LogCaptureFixture
) -> None:
    file.write_text(line("alice"))
    ring = KeyRing(file)
    spoil(file)
    for _ in range(5):
        ring.look()
    assert names(ring) == ["alice"]
    assert not ring.is_current
    assert [record.levelname for record in caplog.records] == ["ERROR"]
    assert "secret" not in caplog.text
    mended = file.with_name("mended")
    mended.write_text(line("alice"))
    if file.is_dir():
        file.rmdir()
    mended.replace(file)
    ring.look()
    ring.look()
    assert ring.is_current


def test_a_key_is_held_until_its_holder_may_do_something_else(file: Path) -> None:
    file.write_text(f"alice {DIGEST} role=operator")
    ring = KeyRing(file)
    (key,) = ring.keys
    for text, held in (
        (f"alice {DIGEST} role=operator rate=5\n{line('bob')}", True),
        (f"alice {DIGEST}", False),
        (f"bob {DIGEST} role=operator", False),
        (line("alice"), False),
    ):
        file.write_text(text)
        ring.look()
        ring.look()
        assert ring.holds(key) is held, text


def test_a_role_is_read_beside_the_limits(file: Path) -> None:
    file.write_text(f"# who\n\nalice {DIGEST} rate=2.5 role=operator unfinished=3  # the old one\nbob {'0' * 64}")
    alice, bob = read_keys(file)
    assert (alice.is_operator, alice.limits) == (True, Limits(rate=2.5, unfinished=3))
    assert not bob.is_operator
    assert [may_see(key, owner) for key in (alice, bob, None) for owner in ("alice", "bob", None)] == [
        *(True, True, True),
        *(False, True, False),
        *(False, False, True),
    ]
