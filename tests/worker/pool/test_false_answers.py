"""Answers that a job wrote to the pool by itself: they cost the process that it runs in."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.worker.pool.running import result, submit, wait_until
from twolane import wire
from twolane.errors import ProcessDied
from worker import frames
from worker.pool import MAX_RESULT_BYTES, Pool

ANSWERS = {
    "a longer one than may be": (frames.RESULT, MAX_RESULT_BYTES + 1, b"", "the limit is 67,1"),
    "a longer error than may be": (frames.ERROR, (1 << 20) + 1, b"", "the limit is 1,048,576"),
    "more than one": (frames.RESULT, 1, b"\xc0more", "4 bytes after the end of an answer"),
    "a second welcome": (frames.READY, 0, b"", "kind 0, unasked"),
    "a failure to load": (frames.BROKEN, 0, b"", "kind 1, unasked"),
    "one of no kind": (9, 0, b"", "kind 9, unasked"),
    "an error that is none": (frames.ERROR, 1, b"\x01", "Expected `object`"),
    "an error in no encoding": (frames.ERROR, 1, b"\xc1", "invalid"),
}


@pytest.mark.parametrize(("kind", "length", "body", "words"), ANSWERS.values(), ids=ANSWERS)
async def test_what_is_no_answer_fails_its_job_and_the_pool_heals(
    pool: Pool, tmp_path: Path, kind: int, length: int, body: bytes, words: str
) -> None:
    with pytest.raises(ProcessDied, match=f"sent what is no answer: .*{words}"):
        await submit(pool, "answer_with", kind, length, body, f"{tmp_path}/never")

    assert await result(pool, "add", 1) == 2
    assert pool.restarts == 1


async def test_a_second_answer_is_nobodys(pool: Pool, tmp_path: Path) -> None:
    forged, go = wire.dumps("forged"), tmp_path / "go"

    ran = await submit(pool, "answer_with", frames.RESULT, len(forged), forged, str(go))
    go.touch()

    assert ran.result == forged
    await wait_until(lambda: ran.pid not in pool.pids)
    assert pool.restarts == 1
    assert await result(pool, "add", 1) == 2
