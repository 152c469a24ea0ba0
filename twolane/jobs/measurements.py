"""The database table that ``query`` reads, which fills itself.

Purpose: a query that any machine can answer at once, with an answer that can be checked.

Guarantees: the table appears together with all its rows, in one transaction. So a worker that is
killed meanwhile leaves nothing, and workers that start at once fill it once: the first holds the
lock (SQLite: the write lock; PostgreSQL: an advisory lock), the others wait and find it done.

Assumption: a table of this name is this table; it is never altered or dropped here.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Final

import platformdirs
from sqlalchemy import Column, Connection, Integer, MetaData, Table, func, inspect, select, text
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.schema import CreateTable

from twolane import password_file

ENVIRONMENT: Final = "TWOLANE_DATABASE_URL"
PASSWORD_FILE: Final = "TWOLANE_DATABASE_PASSWORD_FILE"
ROWS: Final = 10_000
# Connections a worker holds; jobs beyond wait their turn. Arbitrary: a tenth of the 100 that
# PostgreSQL accepts by default.
CONNECTIONS: Final = 10
# Seconds to wait for another worker that fills the table (about 0.1 s of work), or for a server.
LOCK_SECONDS: Final = 30
# The key of PostgreSQL's advisory lock: "twolane" in ASCII, as a number.
LOCK_KEY: Final = int.from_bytes(b"twolane", "big")
DRIVERS: Final = {
    "sqlite": "sqlite+aiosqlite",
    "postgresql": "postgresql+asyncpg",
    "postgres": "postgresql+asyncpg",  # libpq's other spelling of the scheme
}

measurements = Table(
    "twolane_measurements",
    MetaData(),
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("value", Integer, nullable=False),
)
# 7919 is a prime that does not divide 1000: the values 0 … 999 appear evenly and in no order.
FILL: Final = text(
    f"""
    INSERT INTO {measurements.name} (id, value)
    WITH RECURSIVE ids (id) AS (SELECT 1 UNION ALL SELECT id + 1 FROM ids WHERE id < {ROWS})
    SELECT id, (id * 7919) % 1000 FROM ids
    """
)
REFUSED: Final = (
    "the server keeps the password that its data was made with: give the worker that one, or "
    "change it in the server (ALTER ROLE … PASSWORD …)"
)


class DatabaseError(Exception):
    """The database cannot be used as asked; the message holds no password."""


class NotEnoughRows(DatabaseError):
    pass


def _failed(url: URL, error: Exception) -> DatabaseError:
    # The driver's own message, without the statement and links that SQLAlchemy puts around it.
    cause = getattr(error, "orig", None) or error
    # SQLSTATE class 28, invalid authorization; asyncpg's errors carry it, wrapped or not.
    refused = any(
        str(getattr(one, "sqlstate", "") or "").startswith("28") for one in (error, cause)
    )
    hint = f"; {REFUSED}" if refused else ""
    return DatabaseError(f"{shown(url)}: {type(error).__name__}: {cause}{hint}")


def expected_sum(rows: int) -> int:
    """What the first ``rows`` values add up to."""
    return sum(number * 7919 % 1000 for number in range(1, rows + 1))


def database_url(given: str | None = None) -> URL:
    """The database's URL with an asynchronous driver: ``given``, else TWOLANE_DATABASE_URL, else a
    SQLite file in the user's data directory, which is made where it is missing.

    Raises:
        DatabaseError: not a URL, or of no kind that is supported.
    """
    wanted = given or os.environ.get(ENVIRONMENT)
    if not wanted:
        home = Path(platformdirs.user_data_dir("twolane", appauthor=False))
        home.mkdir(parents=True, exist_ok=True)
        return URL.create(DRIVERS["sqlite"], database=str(home / "measurements.sqlite3"))
    try:
        url = make_url(wanted)
    except (ArgumentError, ValueError):
        # What was given is not repeated: a password may stand anywhere in it.
        raise DatabaseError(
            "the database URL cannot be parsed; "
            "write postgresql://user:password@host/name or sqlite:////path/to/file"
        ) from None
    url = url.set(drivername=DRIVERS.get(url.drivername, url.drivername))
    if url.drivername == "postgresql+asyncpg" and (mode := url.query.get("sslmode")):
        # libpq's name for it, in the URLs that hosting companies hand out; asyncpg's is ssl.
        url = url.difference_update_query(["sslmode"]).update_query_dict({"ssl": mode})
    if url.get_backend_name() not in ("sqlite", "postgresql"):
        raise DatabaseError(f"{shown(url)}: give a postgresql:// or sqlite:// URL")
    url = _with_password(url)
    if url.get_backend_name() == "sqlite" and url.database in (None, "", ":memory:"):
        raise DatabaseError(
            f"{shown(url)}: name a file that workers share: sqlite:////path/to/file"
        )
    return url


def _with_password(url: URL) -> URL:
    """A server's URL without a password gets the one in TWOLANE_DATABASE_PASSWORD_FILE, if set."""
    file = os.environ.get(PASSWORD_FILE)
    if not file or url.password or url.get_backend_name() == "sqlite":
        return url
    return url.set(password=password_file.read(PASSWORD_FILE, file, DatabaseError))


def shown(url: URL) -> str:
    """The URL for people and records: no password, and no options, which may hold one."""
    return url.set(query={}).render_as_string(hide_password=True)


async def open_engine(url: URL) -> AsyncEngine:
    """Connect, and fill the table if it is not there; to be disposed of by the caller.

    Raises:
        DatabaseError: the database cannot be reached or written to.
    """
    options: dict[str, Any] = {}
    if url.get_backend_name() == "sqlite":
        options["connect_args"] = {"timeout": LOCK_SECONDS}
    engine = None
    try:
        engine = create_async_engine(
            url,
            pool_size=CONNECTIONS,
            max_overflow=0,
            pool_timeout=3600,  # a job that waits for a connection ends by its own timeout
            pool_pre_ping=True,  # a server that was restarted costs no job
            **options,
        )
        await _fill(engine)
    except BaseException as error:  # a cancellation too leaves no connection behind
        if engine is not None:
            await engine.dispose()
        # Any exception: a driver's own come unwrapped where it was connecting.
        if isinstance(error, Exception):
            raise _failed(url, error) from None
        raise
    return engine


async def _fill(engine: AsyncEngine) -> None:
    async with engine.connect() as connection:
        if await connection.run_sync(_is_there):
            return
    async with engine.connect() as connection:
        if engine.dialect.name == "sqlite":
            # AUTOCOMMIT leaves BEGIN to us: the driver's own would take the lock too late.
            await connection.execution_options(isolation_level="AUTOCOMMIT")
            await connection.execute(text("BEGIN IMMEDIATE"))
            try:
                await connection.run_sync(_make)
            except BaseException:  # a cancellation too gives the lock back
                await connection.execute(text("ROLLBACK"))
                raise
            await connection.execute(text("COMMIT"))
        else:
            async with connection.begin():
                await connection.execute(select(func.pg_advisory_xact_lock(LOCK_KEY)))
                await connection.run_sync(_make)


def _is_there(connection: Connection) -> bool:
    return inspect(connection).has_table(measurements.name)


def _make(connection: Connection) -> None:
    if not _is_there(connection):
        connection.execute(CreateTable(measurements))
        connection.execute(FILL)


async def add_up(engine: AsyncEngine, rows: int) -> dict[str, str | int]:
    """Select the first ``rows`` rows and add up their values, all in the database.

    Raises:
        NotEnoughRows: the table holds fewer.
        DatabaseError: the query failed.
    """
    first = select(measurements.c.value).order_by(measurements.c.id).limit(rows).subquery()
    try:
        async with engine.connect() as connection:
            answer = await connection.execute(select(func.count(), func.sum(first.c.value)))
            count, total = answer.one()
    except Exception as error:  # a driver's own come unwrapped where it was connecting
        raise _failed(engine.url, error) from None
    if count < rows:
        raise NotEnoughRows(
            f"asked for {rows} rows, and {measurements.name} holds {count}; ask for at most {count}"
        )
    return {"rows": count, "sum": int(total), "database": engine.dialect.name}
