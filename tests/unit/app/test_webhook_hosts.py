"""Which addresses webhooks may call: hosts that are listed, and no network inside of anything unless it is, too."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest
from pydantic import ValidationError

from difuso.app.http.api_keys import read_keys
from difuso.app.settings import ApiSettings
from difuso.app.webhooks.hosts import WebhookHosts
from difuso.app.webhooks.signing import read_secrets, signature

LISTED = WebhookHosts(["hooks.example.com", "*.example.org", "http://plain.example", "10.1.0.0/16", "fd00::/8"])
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


@pytest.mark.parametrize(
    ("url", "is_listed"),
    [
        ("https://hooks.example.com/a?b=c", True),
        ("https://HOOKS.example.com:8443/", True),
        ("http://hooks.example.com/", False),
        ("https://hooks.example.com.evil.test/", False),
        ("https://evil.test/hooks.example.com", False),
        ("https://evil.test#hooks.example.com", False),
        ("https://a.example.org/", True),
        ("https://a.b.example.org/", True),
        ("https://example.org/", False),
        ("https://badexample.org/", False),
        ("http://plain.example/", True),
        ("https://plain.example/", True),
        ("https://10.1.2.3/", True),
        ("http://10.1.2.3/", False),
        ("https://10.2.0.1/", False),
        ("https://127.0.0.1/", False),
        ("https://127.1/", False),
        ("https://2130706433/", False),
        ("https://[fd00::1]/", True),
        ("https://[::1]/", False),
        ("https://[::ffff:10.1.0.1]/", True),
    ],
)
def test_a_host_has_to_be_listed(url: str, is_listed: bool) -> None:
    assert LISTED.lists(httpx.URL(url)) == is_listed


def test_any_name_may_be_allowed_and_no_address_with_it() -> None:
    hosts = WebhookHosts(["*"])
    assert hosts.lists(httpx.URL("https://anything.example/"))
    assert not hosts.lists(httpx.URL("https://93.184.215.14/"))


@pytest.mark.parametrize(
    ("address", "is_reached"),
    [
        ("93.184.215.14", True),
        ("2606:2800:21f:cb07:6820:80da:af6b:8b2c", True),
        ("10.1.2.3", True),  # listed
        ("fd00::1", True),
        ("::ffff:10.1.2.3", True),
        ("10.2.0.1", False),
        ("127.0.0.1", False),
        ("::1", False),
        ("::ffff:127.0.0.1", False),
        ("0.0.0.0", False),
        ("::", False),
        ("169.254.169.254", False),
        ("fe80::1", False),
        ("fe80::1%eth0", False),
        ("172.16.0.1", False),
        ("192.168.1.1", False),
        ("100.64.0.1", False),
        ("224.0.0.1", False),
        ("ff02::1", False),
        ("255.255.255.255", False),
        ("2002:7f00:1::", False),  # 6to4 of 127.0.0.1
        ("64:ff9b::7f00:1", False),  # NAT64 of it
        ("fec0::1", False),
        ("168.63.129.16", False),  # of Azure, which each machine there reaches
        ("localhost", False),
    ],
)
def test_only_addresses_of_the_whole_world_and_listed_ones_are_called(address: str, is_reached: bool) -> None:
    assert LISTED.reaches(address) == is_reached


@pytest.mark.parametrize(
    "entry", ["https://a.example", "a.example/path", "a.example:80", "*.", "a*b", "10.0.0.1/8", "http://"]
)
def test_a_wrong_entry_is_named(entry: str) -> None:
    with pytest.raises(ValidationError, match="webhook_hosts"):
        ApiSettings(webhook_hosts=entry)  # type: ignore[arg-type]


def test_entries_are_separated_by_commas() -> None:
    settings = ApiSettings(webhook_hosts="Hooks.example.com, http://10.0.0.0/8")  # type: ignore[arg-type]
    assert settings.webhook_hosts == {"hooks.example.com", "http://10.0.0.0/8"}


def test_the_signature_is_that_of_the_reference_library() -> None:
    """The example of the documentation of https://www.standardwebhooks.com's libraries."""
    signed = signature(SECRET, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, b'{"test": 2432232314}')
    assert signed == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


@pytest.mark.parametrize("content", ["", "\n", "whsec_short", "whsec_!!!!", f"{SECRET}\nwhsec_", "c2hvcnQ="])
def test_a_bad_file_of_secrets_is_refused_without_repeating_it(content: str, tmp_path: Path) -> None:
    file = tmp_path / "secret"
    file.write_text(content)
    with pytest.raises(ValidationError, match="webhook_secret_file") as refused:
        ApiSettings(webhook_secret_file=file)
    assert SECRET not in str(refused.value)
    with pytest.raises(ValidationError, match="cannot be read"):
        ApiSettings(webhook_secret_file=tmp_path / "none")


def test_secrets_stand_on_lines_with_or_without_their_prefix(tmp_path: Path) -> None:
    file = tmp_path / "secret"
    file.write_text(f"{SECRET}\n{SECRET.removeprefix('whsec_')}\n")
    assert read_secrets(file) == [SECRET, SECRET.removeprefix("whsec_")]


def test_a_key_may_have_a_secret_of_its_own_that_nobody_sees(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_text(f"alice {'0' * 64} webhook_secret={SECRET} rate=5\n")
    (key,) = read_keys(file)
    assert (key.webhook_secret, key.limits.rate) == (SECRET, 5)
    assert SECRET not in repr(key)
    file.write_text(f"alice {'0' * 64} webhook_secret={SECRET}x\n")
    with pytest.raises(ValueError, match=r"webhook_secret.*openssl rand") as refused:
        read_keys(file)
    assert SECRET not in str(refused.value)
