"""``query`` and the table that fills itself, on SQLite files."""

from __future__ import annotations

import asyncio
import signal
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from twolane.jobs import database
from twolane.jobs.database import query
from twolane.jobs.measurements import (
    ROWS,
    DatabaseError,
    NotEnoughRows,
    database_url,
    expected_sum,
    shown,
)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "jobs.sqlite3"


@pytest.fixture
async def ctx(file: Path) -> AsyncIterator[dict[str, Any]]:
    made: dict[str, Any] = {"database_url": f"sqlite:///{file}"}
    await database.on_startup(made)
    yield made
    await database.on_shutdown(made)


def rows_in(file: Path) -> int:
    connection = sqlite3.connect(file)
    try:
        (count,) = connection.execute("SELECT count(*) FROM twolane_measurements").fetchone()
    finally:
        connection.close()
    return int(count)


def start(code: str, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", code, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


@pytest.mark.parametrize("rows", [1, 17, ROWS])
async def test_the_sum_is_the_expected_one(ctx: dict[str, Any], rows: int) -> None:
    answer = await query(ctx, rows)

    assert answer == {"rows": rows, "sum": expected_sum(rows), "database": "sqlite"}


async def test_too_many_rows_says_how_many_there_are(ctx: dict[str, Any]) -> None:
    with pytest.raises(NotEnoughRows, match=r"asked for 10001 rows.* holds 10000"):
        await query(ctx, ROWS + 1)


async def test_jobs_that_start_together_share_one_engine(ctx: dict[str, Any], file: Path) -> None:
    answers = await asyncio.gather(*(query(ctx, 100) for _ in range(100)))

    assert {answer["sum"] for answer in answers} == {expected_sum(100)}
    assert rows_in(file) == ROWS


async def test_shutdown_without_a_query_has_nothing_to_close() -> None:
    ctx: dict[str, Any] = {}
    await database.on_startup(ctx)

    await database.on_shutdown(ctx)

    assert database.ENGINE not in ctx


async def test_a_database_that_failed_to_open_is_tried_again(tmp_path: Path) -> None:
    ctx: dict[str, Any] = {"database_url": f"sqlite:///{tmp_path}/later/jobs.sqlite3"}
    with pytest.raises(DatabaseError, match="unable to open database file"):
        await query(ctx, 1)

    (tmp_path / "later").mkdir()

    assert (await query(ctx, 1))["rows"] == 1
    await database.on_shutdown(ctx)


async def test_a_table_that_is_there_is_left_as_it_is(ctx: dict[str, Any], file: Path) -> None:
    connection = sqlite3.connect(file)
    connection.execute("CREATE TABLE twolane_measurements (id INTEGER PRIMARY KEY, value INTEGER)")
    connection.execute("INSERT INTO twolane_measurements VALUES (1, 5)")
    connection.commit()
    connection.close()

    assert (await query(ctx, 1))["sum"] == 5
    assert rows_in(file) == 1


QUERY = """
import asyncio, sys
from twolane.jobs.database import on_shutdown, on_startup, query

async def main():
    ctx = {"database_url": sys.argv[1]}
    await on_startup(ctx)
    print("ready", flush=True)
    sys.stdin.readline()
    print((await query(ctx, 10_000))["sum"])
    await on_shutdown(ctx)

asyncio.run(main())
"""


def test_workers_that_start_at_once_fill_the_table_once(file: Path) -> None:
    workers = [start(QUERY, f"sqlite:///{file}") for _ in range(4)]
    for worker in workers:
        assert worker.stdout is not None
        assert worker.stdout.readline() == "ready\n"

    for worker in workers:
        assert worker.stdin is not None
        worker.stdin.write("\n")
        worker.stdin.flush()

    answers = [worker.communicate()[0] for worker in workers]
    assert answers == [f"{expected_sum(ROWS)}\n"] * 4
    assert [worker.returncode for worker in workers] == [0] * 4
    assert rows_in(file) == ROWS


# Fills the table, and stops where the commit would be.
FILL_AND_WAIT = """
import asyncio, sys
from twolane.jobs import measurements

make = measurements._make

def make_and_wait(connection):
    make(connection)
    print("filled", flush=True)
    sys.stdin.readline()

measurements._make = make_and_wait
asyncio.run(measurements.open_engine(measurements.database_url(sys.argv[1])))
"""


async def test_a_worker_killed_while_it_fills_leaves_no_half_table(
    ctx: dict[str, Any], file: Path
) -> None:
    worker = start(FILL_AND_WAIT, f"sqlite:///{file}")
    assert worker.stdout is not None
    assert worker.stdout.readline() == "filled\n"

    worker.send_signal(signal.SIGKILL)
    worker.communicate()

    assert (await query(ctx, ROWS))["sum"] == expected_sum(ROWS)


def test_by_default_it_is_a_file_of_this_users(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TWOLANE_DATABASE_URL", raising=False)
    monkeypatch.setattr("platformdirs.user_data_dir", lambda *_, **__: str(tmp_path / "data"))

    url = database_url()

    assert url.drivername == "sqlite+aiosqlite"
    assert Path(url.database or "") == tmp_path / "data" / "measurements.sqlite3"
    assert (tmp_path / "data").is_dir()


def test_the_environment_names_it_and_the_worker_overrides(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TWOLANE_DATABASE_URL", "sqlite:////from/environment")

    assert database_url().database == "/from/environment"
    assert database_url("sqlite:////from/worker").database == "/from/worker"


@pytest.mark.parametrize(
    ("given", "used"),
    [
        ("postgresql://me@db/x", "postgresql+asyncpg://me@db/x"),
        ("postgres://me@db/x", "postgresql+asyncpg://me@db/x"),
        ("postgresql+asyncpg://me@db/x", "postgresql+asyncpg://me@db/x"),
        ("postgresql://db/x?sslmode=require", "postgresql+asyncpg://db/x?ssl=require"),
        ("sqlite:////x.db", "sqlite+aiosqlite:////x.db"),
        ("sqlite+aiosqlite:////x.db", "sqlite+aiosqlite:////x.db"),
    ],
)
def test_a_plain_url_gets_an_asynchronous_driver(given: str, used: str) -> None:
    assert str(database_url(given)) == used


@pytest.mark.parametrize(
    "url",
    [
        "mysql://me:s3cret@db/x",
        "s3cret",
        "postgresql://me:x@s3cret:port/x",
        "sqlite://",
        "sqlite:///:memory:",
    ],
)
def test_a_url_of_no_use_is_refused_without_its_secret(url: str) -> None:
    with pytest.raises(DatabaseError, match=r"://") as refusal:
        database_url(url)

    assert "s3cret" not in str(refusal.value)


async def test_an_unreachable_server_is_named_without_the_password() -> None:
    url = "postgresql://me:s3cret@127.0.0.1:1/x?password=s3cret"

    with pytest.raises(DatabaseError, match=r"me:\*\*\*@127\.0\.0\.1:1/x") as failure:
        await query({"database_url": url}, 1)

    assert "s3cret" not in str(failure.value)
    assert "s3cret" not in shown(database_url(url))


@pytest.mark.parametrize("rows", [0, -1, 100_001, "5"])
def test_the_annotation_refuses_other_counts(rows: object) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(rows, database.Rows)
