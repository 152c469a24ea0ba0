"""``fetch`` against what would lead it to an address that it must not reach."""

from __future__ import annotations

import socket
from ipaddress import ip_address
from typing import Any

import msgspec
import pytest
from aiohttp.abc import AbstractResolver, ResolveResult
from yarl import URL

from tests.jobs.web.servers import Serve, hello, redirecting
from twolane.jobs import web as web_jobs
from twolane.jobs.addresses import literal_address, why_refused
from twolane.jobs.web import fetch
from twolane.jobs.web_client import (
    AddressRefused,
    UrlRefused,
    get,
    next_url,
    open_session,
)


class FakeNames(AbstractResolver):
    """Answers the n-th question with the n-th list of addresses, then with the last one."""

    def __init__(self, *answers: list[str]) -> None:
        self.answers = answers
        self.asked = 0

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        answer = self.answers[min(self.asked, len(self.answers) - 1)]
        self.asked += 1
        return [
            ResolveResult(
                hostname=host,
                host=address,
                port=port,
                family=socket.AF_INET6 if ":" in address else socket.AF_INET,
                proto=0,
                flags=socket.AI_NUMERICHOST,
            )
            for address in answer
        ]

    async def close(self) -> None:
        pass


REFUSED_HOSTS = {
    "169.254.169.254": "link-local",
    "169.254.0.1": "link-local",
    "2852039166": "link-local",  # 169.254.169.254 in decimal,
    "0xa9fea9fe": "link-local",  # in hexadecimal,
    "0xa9.0xfe.0xa9.0xfe": "link-local",  # by parts,
    "0251.0376.0251.0376": "link-local",  # in octal,
    "169.16689662": "link-local",  # and in two parts
    "169.254.169.254.": "link-local",
    "[::ffff:169.254.169.254]": "link-local",
    "[::ffff:a9fe:a9fe]": "link-local",
    "[::169.254.169.254]": "link-local",
    "[64:ff9b::a9fe:a9fe]": "link-local",
    "[64:ff9b:1::a9fe:a9fe]": "link-local",  # local NAT64, by prefixes of 96,
    "[64:ff9b:1:2:a9:fea9:fe00:0]": "link-local",  # 64,
    "[64:ff9b:1:2a9:fe:a9fe::]": "link-local",  # 56
    "[64:ff9b:1:a9fe:a9:fe00::]": "link-local",  # and 48 bits
    "[64:ff9b:1::a83f:8110]": "metadata",
    "[::ffff:0:a9fe:a9fe]": "link-local",  # IPv4-translated
    "[::ffff:0:100.100.100.200]": "metadata",
    "[2001:0:a9fe:a9fe::f7f7:f7f7]": "link-local",  # Teredo: the server,
    "[2001:0:808:808::5601:5601]": "link-local",  # and the client
    "[2002:a9fe:a9fe::1]": "link-local",
    "[fe80::1]": "link-local",
    "[febf::1]": "link-local",
    "[fd00:ec2::254]": "metadata",
    "[fd00:0ec2:0:0::0254]": "metadata",
    "[fd20:ce::254]": "metadata",
    "100.100.100.200": "metadata",
    "168.63.129.16": "metadata",
    "0.0.0.0": "unspecified",
    "0": "unspecified",
    "[::]": "unspecified",
    "[::ffff:0.0.0.0]": "unspecified",
    "224.0.0.1": "multicast",
    "[ff02::1]": "multicast",
    "255.255.255.255": "broadcast",
}


@pytest.mark.parametrize(("host", "reason"), REFUSED_HOSTS.items())
async def test_a_refused_address_is_refused_however_it_is_spelled(
    ctx: dict[str, Any], host: str, reason: str
) -> None:
    with pytest.raises(AddressRefused, match=f"is a {reason} address"):
        await fetch(ctx, f"http://{host}:9/latest/meta-data/")


@pytest.mark.parametrize("host", REFUSED_HOSTS)
async def test_a_redirect_to_a_refused_address_is_refused(
    ctx: dict[str, Any], serve: Serve, host: str
) -> None:
    with pytest.raises(AddressRefused):
        await fetch(ctx, await serve(redirecting(f"http://{host}:9/")))


@pytest.mark.parametrize(
    "location", ["file:///etc/passwd", "ftp://127.0.0.1/", "data:,x", "http://[::1"]
)
async def test_a_redirect_to_no_web_address_is_refused(
    ctx: dict[str, Any], serve: Serve, location: str
) -> None:
    with pytest.raises(UrlRefused):
        await fetch(ctx, await serve(redirecting(location)))


@pytest.mark.parametrize("address", ["169.254.169.254", "fe80::1%1", "::ffff:169.254.169.254"])
async def test_a_name_that_resolves_to_a_refused_address_is_refused(address: str) -> None:
    async with open_session(FakeNames([address])) as session:
        with pytest.raises(AddressRefused, match=r"internal\.example"):
            await get(session, "http://internal.example:9/")


async def test_of_a_name_with_several_addresses_only_allowed_ones_are_used(serve: Serve) -> None:
    port = URL(await serve(hello)).port
    names = FakeNames(["169.254.169.254", "127.0.0.1", "fd00:ec2::254"])

    async with open_session(names) as session:
        answer = await get(session, f"http://mixed.example:{port}/")

    assert answer["status"] == 200


async def test_a_name_that_rebinds_is_connected_where_it_was_checked(serve: Serve) -> None:
    port = URL(await serve(hello)).port
    names = FakeNames(["127.0.0.1"], ["169.254.169.254"])

    async with open_session(names) as session:
        answer = await get(session, f"http://rebinding.example:{port}/")
        assert (answer["status"], names.asked) == (200, 1)  # no second question to differ on

        # When the name is asked for anew, its new address is checked as well.
        with pytest.raises(AddressRefused):
            await get(session, "http://rebinding.example:9/")


async def test_a_name_behind_a_redirect_is_checked_too(serve: Serve) -> None:
    base = await serve(redirecting("http://internal.example:9/"))

    async with open_session(FakeNames(["169.254.169.254"])) as session:
        with pytest.raises(AddressRefused):
            await get(session, base)


def test_no_redirect_leads_from_https_to_http() -> None:
    start = URL("https://me:s3cret@example.com/a")

    assert next_url(start, "/b") == URL("https://me:s3cret@example.com/b")
    assert next_url(URL("http://example.com/"), "https://example.com/").scheme == "https"
    with pytest.raises(UrlRefused, match="from https to http") as refusal:
        next_url(start, "http://example.com/a")
    assert "s3cret" not in str(refusal.value)


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1", "::1", "10.0.0.1", "192.168.1.1", "172.16.0.1", "fd00::1", "1.1.1.1",
        "64:ff9b:1::101:101", "64:ff9b:1:101:1:100::", "::ffff:0:1.1.1.1",
        "2001:0:808:808::f7f7:f7f7", "2001:4860:4860::8888",
    ],
)  # fmt: skip
def test_loopback_private_and_public_addresses_are_allowed(host: str) -> None:
    assert why_refused(ip_address(host)) is None


@pytest.mark.parametrize("name", ["localhost", "example.com", "1.example", "0x.example"])
def test_a_name_is_no_literal_address(name: str) -> None:
    assert literal_address(name) is None


@pytest.mark.parametrize("url", ["http://a", "HTTPS://a/b", "hTTp://a"])
def test_the_annotation_takes_http_and_https_in_any_case(url: str) -> None:
    assert msgspec.convert(url, web_jobs.Url) == url


@pytest.mark.parametrize(
    "url", ["", "a.example", "ftp://a", "file:///etc/passwd", " http://a", "xhttp://a", 7]
)
def test_the_annotation_refuses_other_schemes(url: object) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(url, web_jobs.Url)
