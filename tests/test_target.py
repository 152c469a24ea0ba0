"""The web service of known latency: as a process, and what it answers."""

from __future__ import annotations

import asyncio
import contextlib
import random
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator

import aiohttp
import pytest
from aiohttp.test_utils import RawTestServer
from click.testing import CliRunner

from producer.cli.target import target
from producer.target import Latency, Target

COMMAND = [sys.executable, "-c", "from producer.cli.target import target; target()", "--port", "0"]


class Service:
    """``twolane target`` on a free port."""

    def __init__(self, *options: str) -> None:
        self.process = subprocess.Popen(
            [*COMMAND, *options], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        assert self.process.stdout is not None
        self.line = self.process.stdout.readline()
        self.url = self.line.removeprefix("listening on ").strip()

    def end(self, number: signal.Signals) -> tuple[int, str, str]:
        self.process.send_signal(number)
        out, err = self.process.communicate(timeout=30)
        return self.process.returncode, out, err


@pytest.fixture
def service(request: pytest.FixtureRequest) -> Iterator[Service]:
    made = Service(*getattr(request, "param", ()))
    yield made
    made.process.kill()
    made.process.communicate()


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector) as made:
        yield made


async def stats_of(session: aiohttp.ClientSession, url: str) -> dict[str, int]:
    async with session.get(f"{url}/stats") as response:
        stats: dict[str, int] = await response.json()
    return stats


async def wait_in_flight(session: aiohttp.ClientSession, url: str, count: int) -> dict[str, int]:
    while True:
        stats = await stats_of(session, url)
        if stats["in_flight"] == count:
            return stats


@pytest.mark.parametrize("service", [("--latency", "0")], indirect=True)
async def test_it_tells_its_url_and_answers_any_path(
    service: Service, session: aiohttp.ClientSession
) -> None:
    assert service.line.startswith("listening on http://127.0.0.1:")

    for path in ("/", "/a/b?c=d"):
        async with session.get(service.url + path) as response:
            assert (response.status, await response.read()) == (200, b"x" * 1000)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("service", [("--latency", "1h")], indirect=True)
async def test_a_signal_ends_it_at_once_while_requests_wait(
    service: Service, session: aiohttp.ClientSession, number: signal.Signals
) -> None:
    waiting = [asyncio.create_task(session.get(service.url)) for _ in range(3)]
    await wait_in_flight(session, service.url, 3)

    ended = await asyncio.to_thread(service.end, number)

    assert ended == (0, "", "")
    outcomes = await asyncio.gather(*waiting, return_exceptions=True)
    assert all(isinstance(outcome, aiohttp.ClientError) for outcome in outcomes)


async def test_it_ends_quietly_while_requests_come_and_go(session: aiohttp.ClientSession) -> None:
    """aiohttp raised InvalidStateError for what it answered just as it gave up waiting for it."""

    async def ask_on(url: str) -> None:
        with contextlib.suppress(aiohttp.ClientError):
            while True:
                async with session.get(url) as response:
                    await response.read()

    for _ in range(4):
        service = Service("--latency", "50ms")
        clients = [asyncio.create_task(ask_on(service.url)) for _ in range(200)]
        # Some rounds later they are out of step.
        while (await stats_of(session, service.url))["requests"] < 1_500:
            pass

        ended = await asyncio.to_thread(service.end, signal.SIGTERM)
        await asyncio.gather(*clients)

        assert ended == (0, "", "")


@pytest.mark.parametrize("service", [("--latency", "1h")], indirect=True)
async def test_health_and_stats_do_not_wait(
    service: Service, session: aiohttp.ClientSession
) -> None:
    waiting = [asyncio.create_task(session.get(service.url)) for _ in range(2)]
    await wait_in_flight(session, service.url, 2)

    async with session.get(f"{service.url}/healthz") as response:
        assert response.status == 200
    assert await wait_in_flight(session, service.url, 2) == {
        "requests": 2,
        "in_flight": 2,
        "peak_in_flight": 2,
        "errors": 0,
    }
    for task in waiting:
        task.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)


async def test_the_peak_stays_when_the_requests_are_over(session: aiohttp.ClientSession) -> None:
    async with RawTestServer(Target(latency=0.02).answer) as server:
        url = str(server.make_url("/")).rstrip("/")

        await asyncio.gather(*(session.get(url) for _ in range(20)))

        stats = await wait_in_flight(session, url, 0)
    assert stats["requests"] == 20
    assert 1 <= stats["peak_in_flight"] <= 20


async def test_the_same_seed_fails_the_same_requests(session: aiohttp.ClientSession) -> None:
    async def statuses(seed: int) -> list[int]:
        made = Target(latency=0, error_rate=0.3, seed=seed)
        async with RawTestServer(made.answer) as server:
            seen = []
            for _ in range(50):
                async with session.get(server.make_url("/")) as response:
                    seen.append(response.status)
        assert made.stats.errors == seen.count(500)
        return seen

    first = await statuses(1)

    assert set(first) == {200, 500}
    assert await statuses(1) == first
    assert await statuses(2) != first


async def test_a_service_of_capacity_one_serves_one_after_the_other(
    session: aiohttp.ClientSession,
) -> None:
    async with RawTestServer(Target(0.03, capacity=1).answer) as server:
        loop = asyncio.get_running_loop()
        began = loop.time()
        answers = await asyncio.gather(*(session.get(server.make_url("/")) for _ in range(3)))
        took = loop.time() - began

    assert [answer.status for answer in answers] == [200] * 3
    assert took >= 0.09, "three times the latency, though all came at once"


async def test_an_error_rate_of_one_fails_every_request(session: aiohttp.ClientSession) -> None:
    async with RawTestServer(Target(latency=0, error_rate=1.0).answer) as server:
        for _ in range(10):
            async with session.get(server.make_url("/")) as response:
                assert response.status == 500


def test_one_latency_in_a_hundred_exceeds_the_p99() -> None:
    latency = Latency(0.05, 0.2, random.Random(7))

    drawn = sorted(latency.seconds() for _ in range(100_000))

    # Within four standard errors of each quantile's rank: sqrt(n p (1 - p)) is 158 and 31.
    assert drawn[50_000 - 632] <= 0.05 <= drawn[50_000 + 632]
    assert drawn[99_000 - 126] <= 0.2 <= drawn[99_000 + 126]


@pytest.mark.parametrize("p99", [None, 0.05])
def test_without_a_longer_p99_the_latency_is_constant(p99: float | None) -> None:
    latency = Latency(0.05, p99, random.Random())

    assert {latency.seconds() for _ in range(10)} == {0.05}


@pytest.mark.parametrize("options", [["--p99", "10ms"], ["--latency", "0", "--p99", "1s"]])
def test_a_p99_below_the_latency_is_a_usage_error(options: list[str]) -> None:
    result = CliRunner().invoke(target, options)

    assert result.exit_code == 2
    assert "99th percentile" in result.output


def test_a_port_in_use_is_one_clear_line() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]

        ended = subprocess.run(
            [*COMMAND, "--port", str(port)], capture_output=True, text=True, check=False
        )

    assert ended.returncode == 1
    assert ended.stdout == ""
    assert ended.stderr.startswith(f"Error: cannot listen on 127.0.0.1 port {port}: Address")
    assert ended.stderr.count("\n") == 1


def test_an_unknown_host_is_one_clear_line() -> None:
    result = CliRunner().invoke(target, ["--host", "no such host", "--port", "0"])

    assert result.exit_code == 1
    assert "Error: cannot listen on no such host port 0" in result.stderr


def test_listening_beyond_loopback_is_allowed_with_a_warning() -> None:
    service = Service("--host", "0.0.0.0")

    code, _, err = service.end(signal.SIGTERM)

    assert service.line.startswith("listening on http://0.0.0.0:")
    assert code == 0
    assert err.startswith("Warning: listening on 0.0.0.0")


def test_help_leads_with_an_example_and_shows_every_default() -> None:
    text = " ".join(CliRunner().invoke(target, ["--help"]).output.split())

    assert text.index("twolane target --latency 50ms") < text.index("Options:")
    for default in ("127.0.0.1", "8080", "50ms", "1kB"):
        assert f"default: {default}" in text
