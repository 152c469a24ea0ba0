"""Wake-up calls, and connections that fall silent."""

from __future__ import annotations

import asyncio

import pytest
from redis.asyncio import Redis

from tests.conftest import wait_until
from tests.worker.silencer import Silencer
from twolane import keys
from twolane.broker import connect
from twolane.channel import Subscription
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
    asked = 0
    ask = Subscription.ask

    def ask_and_count(subscription: Subscription) -> None:
        nonlocal asked
        asked += 1
        ask(subscription)

    async def wait_answered(subscription: Subscription, _: float) -> None:
        """It has been silent for the time, and whatever was asked is answered."""
        await wait_until(lambda: subscription.heard > asked, "the answer")

    monkeypatch.setattr(Subscription, "ask", ask_and_count)
    monkeypatch.setattr(Subscription, "wait_lost", wait_answered)
    listening = asyncio.create_task(Waker(client, keys.IO_QUEUE, heard.append).run())
    await wait_heard(heard, 1)

    await wait_until(lambda: asked > 2, "three questions")
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

    def hear(word: str) -> None:
        heard.append(word)
        if len(heard) == 1:
            silencer.swallow()
        else:  # the other one may take its time to answer
            monkeypatch.setattr(waker, "SILENCE_SECONDS", 60.0)

    async with silencer.running(f"{tmp_path}/s"):
        through = connect(f"unix://{tmp_path}/s")
        listening = asyncio.create_task(Waker(through, keys.IO_QUEUE, hear).run())
        await wait_heard(heard, 2)
        await client.publish(keys.wake(keys.IO_QUEUE), "abort")
        await wait_heard(heard, 3)

        assert heard == ["work", "work", "abort"]
        assert silencer.opened == 2
        listening.cancel()
        await asyncio.gather(listening, return_exceptions=True)
        await through.aclose()
