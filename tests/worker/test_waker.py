"""Wake-up calls, and connections that fall silent."""

from __future__ import annotations

import asyncio

import pytest
from redis.asyncio import Redis

from tests.conftest import wait_until
from tests.worker.silencer import Silencer
from twolane import keys
from twolane.broker import connect
from worker import waker
from worker.waker import Waker


@pytest.fixture
def heard() -> list[str]:
    return []


async def wait_heard(heard: list[str], count: int) -> None:
    async def enough() -> bool:
        return len(heard) >= count

    await wait_until(enough, f"{count} words")


async def test_published_words_are_heard_also_after_questions(
    client: Redis, heard: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(waker, "SILENCE_SECONDS", 0.02)
    listening = asyncio.create_task(Waker(client, keys.IO_QUEUE, heard.append).run())
    await wait_heard(heard, 1)
    pings = (await client.info("commandstats")).get("cmdstat_ping", {"calls": 0})["calls"]

    async def asked() -> bool:
        stats = await client.info("commandstats")
        return int(stats.get("cmdstat_ping", {"calls": 0})["calls"]) > int(pings) + 2

    await wait_until(asked, "three questions")
    await client.publish(keys.wake(keys.IO_QUEUE), "abort")
    await wait_heard(heard, 2)

    assert heard == ["work", "abort"]  # answered questions make no new connection
    listening.cancel()


async def test_a_silent_connection_is_given_up_for_another(
    broker: str, client: Redis, heard: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: str
) -> None:
    # It was waited for until TCP itself gave up, and for good where something answered for it.
    monkeypatch.setattr(waker, "SILENCE_SECONDS", 0.05)
    silencer = Silencer(broker.removeprefix("unix://"))
    async with silencer.running(f"{tmp_path}/s"):
        through = connect(f"unix://{tmp_path}/s")
        listening = asyncio.create_task(Waker(through, keys.IO_QUEUE, heard.append).run())
        await wait_heard(heard, 1)

        silencer.swallow()
        await wait_heard(heard, 2)
        await client.publish(keys.wake(keys.IO_QUEUE), "abort")
        await wait_heard(heard, 3)

        assert heard == ["work", "work", "abort"]
        assert silencer.opened == 2
        listening.cancel()
        await asyncio.gather(listening, return_exceptions=True)
        await through.aclose()
