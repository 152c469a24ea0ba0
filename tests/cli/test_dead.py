"""``dead``: what failed for good is listed, retried or dropped."""

from __future__ import annotations

import json

import pytest
from redis.asyncio import Redis

from tests.cli.conftest import Run
from tests.producer.making import claim, failed, settle, succeeded
from twolane import keys


async def dead_letters(twolane: Run, client: Redis, name: str, count: int) -> None:
    twolane("enqueue", "query", "--run", name, "--count", str(count))
    await settle(client, await claim(client), failed(f"no {name}\nat all"))


async def test_dead_letters_are_listed_the_latest_first(twolane: Run, client: Redis) -> None:
    await dead_letters(twolane, client, "old", 1)
    await dead_letters(twolane, client, "new", 2)

    code, out, err = twolane("dead", "list", "--limit", "2")

    assert code == 0
    rows = out.splitlines()[1:]
    assert len(rows) == 2
    assert all(
        row.startswith("new-000000") and row.rstrip().endswith("no new at all") for row in rows
    )
    assert err == "1 more: --limit 3\n"


async def test_dead_letters_as_json(twolane: Run, client: Redis) -> None:
    await dead_letters(twolane, client, "one", 1)

    (letter,) = json.loads(twolane("dead", "list", "--json").out)

    assert set(letter) == {
        "id", "function", "queue", "run", "died_ms", "tries", "error", "message", "traceback",
    }  # fmt: skip
    assert (letter["id"], letter["run"], letter["error"]) == ("one-0000000", "one", "ValueError")


async def test_the_letters_of_one_run(twolane: Run, client: Redis) -> None:
    await dead_letters(twolane, client, "a", 2)
    await dead_letters(twolane, client, "b", 1)

    found = json.loads(twolane("dead", "list", "--run", "a", "--json").out)

    assert sorted(one["id"] for one in found) == ["a-0000000", "a-0000001"]


def test_no_dead_letters_are_said_to_be_none(twolane: Run) -> None:
    assert twolane("dead", "list") == (0, "", "no dead letters\n")


async def test_a_retried_letter_is_a_job_again(twolane: Run, client: Redis) -> None:
    await dead_letters(twolane, client, "again", 2)

    assert twolane("dead", "retry", "--run", "again") == (0, "2 jobs put back\n", "")

    await settle(client, await claim(client), succeeded())
    assert twolane("runs", "show", "again", "--wait").code == 0
    assert json.loads(twolane("dead", "list", "--json").out) == []


async def test_a_letter_that_is_not_there_is_named(twolane: Run, client: Redis) -> None:
    await dead_letters(twolane, client, "there", 1)

    code, out, err = twolane("dead", "retry", "there-0000000", "not-there")

    assert (code, out) == (1, "1 job put back\n")
    assert err == (
        "not put back: not-there (no such dead letter, its payload is gone, "
        "or a job of that id waits already)\n"
    )


async def test_retrying_as_json(twolane: Run, client: Redis) -> None:
    await dead_letters(twolane, client, "j", 1)

    ended = twolane("dead", "retry", "--all", "x", "--json")
    assert ended.code == 2

    assert json.loads(twolane("dead", "retry", "--all", "--json").out) == {
        "retried": 1,
        "refused": [],
    }


async def test_dropped_letters_are_gone_for_good(twolane: Run, client: Redis) -> None:
    await dead_letters(twolane, client, "a", 2)
    await dead_letters(twolane, client, "b", 1)

    assert twolane("dead", "drop", "a-0000000") == (0, "1 dead letter dropped\n", "")
    assert json.loads(twolane("dead", "drop", "--all", "--json").out) == {
        "dropped": 2,
        "missing": [],
    }

    assert await client.zcard(keys.DEAD) == 0
    assert await client.keys(keys.DEAD_PREFIX + "*") == []


async def test_a_letter_to_drop_that_is_not_there_is_named(twolane: Run, client: Redis) -> None:
    await dead_letters(twolane, client, "a", 2)

    ended = twolane("dead", "drop", "a-0000000", "a-0000000", "nope")

    assert ended == (1, "1 dead letter dropped\n", "not dropped: nope (no such dead letter)\n")
    code, out, err = twolane("dead", "drop", "a-0000001", "nope", "--json")
    assert (code, err) == (1, "")
    assert json.loads(out) == {"dropped": 1, "missing": ["nope"]}


@pytest.mark.parametrize("command", [["dead", "retry"], ["dead", "drop"], ["cancel"]], ids=" ".join)
def test_an_id_of_several_lines_forges_none(twolane: Run, command: list[str]) -> None:
    ended = twolane(*command, "nope\n9 jobs put back")

    assert ended.err.count("\n") == 1
    assert "nope" in ended.err


@pytest.mark.parametrize("command", ["retry", "drop"])
@pytest.mark.parametrize("chosen", [[], ["--all", "--run", "a"], ["a-0", "--all"]], ids=str)
async def test_which_letters_must_be_said_once(
    twolane: Run, client: Redis, command: str, chosen: list[str]
) -> None:
    await dead_letters(twolane, client, "a", 1)

    code, out, err = twolane("dead", command, *chosen)

    assert (code, out) == (2, "")
    assert err == "Error: say which: ids, or --run NAME, or --all\n"
    assert await client.zcard(keys.DEAD) == 1


async def test_ids_that_another_client_chose_cannot_act_on_the_terminal(
    twolane: Run, client: Redis
) -> None:
    nasty = "\x1b[31mx\x9b2J\x07"
    await client.zadd(keys.DEAD, {nasty: 1})
    await client.hset(keys.dead(nasty), mapping={"function": nasty})

    for ended in (
        twolane("dead", "list", "--traceback"),
        twolane("dead", "list", "--json"),
        twolane("dead", "retry", "--all"),
    ):
        assert not {"\x1b", "\x9b", "\x07"} & set(ended.out + ended.err)
        assert "Traceback" not in ended.err
