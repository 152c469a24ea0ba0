"""What a broker's URL may say, and that no credential of it is ever shown."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.twolane.broker.canary import CANARY, ENCODED, assert_keeps_the_secret, shown
from twolane import broker
from twolane.errors import UsageError


@pytest.mark.parametrize(
    ("url", "shown_as"),
    [
        ("redis://", "redis://localhost:6379/0"),
        ("redis://host", "redis://host:6379/0"),
        ("redis://host:7000/3", "redis://host:7000/3"),
        ("redis://host:7000?db=3", "redis://host:7000/3"),
        ("redis://:secret@host", "redis://***@host:6379/0"),
        ("redis://ada:secret@host/1", "redis://***@host:6379/1"),
        ("redis://host?username=ada&password=secret", "redis://***@host:6379/0"),
        ("rediss://[::1]:7000", "rediss://[::1]:7000/0"),
        ("valkey://host", "redis://host:6379/0"),
        ("valkeys://host", "rediss://host:6379/0"),
        ("unix:///run/v.sock", "unix:///run/v.sock"),
        ("unix:///run/v.sock?db=2&password=secret", "unix://***@/run/v.sock?db=2"),
        ("unix://:secret@/run/v.sock", "unix://***@/run/v.sock"),
        ("unix:///a%20b/v.sock", "unix:///a%20b/v.sock"),
    ],
)
def test_a_url_is_read_and_shown_without_credentials(url: str, shown_as: str) -> None:
    assert broker.redacted(url) == shown_as


def test_credentials_are_decoded() -> None:
    address = broker.parse(f"redis://a%40b:{ENCODED}@host")

    assert (address.username, address.password) == ("a@b", CANARY)
    assert broker.parse(f"unix:///s?password={ENCODED}").password == CANARY


def test_tls_verifies_unless_told_otherwise() -> None:
    assert broker.parse("rediss://host").tls == {
        "ssl_cert_reqs": "required",
        "ssl_check_hostname": True,
    }
    assert broker.parse("rediss://host?ssl_check_hostname=false").tls["ssl_check_hostname"] is False
    assert broker.parse("rediss://host?ssl_cert_reqs=none").tls == {
        "ssl_cert_reqs": "none",
        "ssl_check_hostname": False,
    }


@pytest.mark.parametrize(
    "url",
    [
        "",
        CANARY,
        "host:6379",
        f"http://:{ENCODED}@host",
        f"{ENCODED}://host",
        f"redis:{CANARY}",
        f"redis://user:{CANARY}",
        f"redis://user:{ENCODED}",
        f"redis://:{CANARY}#@host",
        f"redis://:12/{CANARY}@host",
        f"redis://:12?{CANARY}@host",
        f"redis://:12?{ENCODED}=1@host",
        f"redis://:12#{CANARY}@host",
        f"redis://[{ENCODED}]:6379",
        f"redis://{ENCODED}%40host",
        f"redis://host:6379/{ENCODED}",
        f"redis://host/-1?password={ENCODED}",
        f"redis://host?db={ENCODED}",
        f"redis://host?passwort={ENCODED}",
        f"redis://host:99999?password={ENCODED}",
        f"unix://{ENCODED}",
        f"unix:///:{CANARY}@/run/v.sock",
        f"redis://:{ENCODED}@host?ssl_ca_certs=/ca.pem",
        f"rediss://:{ENCODED}@host?ssl_cert_reqs=perhaps",
        f"rediss://:{ENCODED}@host?ssl_check_hostname=perhaps",
        f"rediss://:{ENCODED}@host?ssl_certfile=/c.pem",
    ],
)
def test_a_malformed_url_is_a_usage_error_that_quotes_nothing(url: str) -> None:
    with pytest.raises(UsageError, match="not a broker URL") as caught:
        broker.parse(url)

    assert_keeps_the_secret(shown(caught.value))
    assert_keeps_the_secret(broker.redacted(url))


def test_a_tls_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"ssl_ca_certs.*no file .*ca\.pem"):
        broker.connect(f"rediss://:{ENCODED}@host?ssl_ca_certs={tmp_path}/ca.pem")
