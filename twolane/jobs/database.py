"""The job that waits for a database."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import msgspec

from twolane.registry import job

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncEngine

ENGINE = "query_engine"
OPENING = "query_engine_opening"

Rows = Annotated[int, msgspec.Meta(ge=1, le=100_000, description="how many rows to add up")]


@job(timeout=60)
async def query(ctx: dict[str, Any], rows: Rows) -> dict[str, str | int]:
    """Add up a table's first ``rows`` values: ``rows``, their ``sum``, the kind of ``database``.

    The database is ``ctx["database_url"]``, else TWOLANE_DATABASE_URL, else a SQLite file of this
    user's. The table, of 10,000 rows, is made there when it is missing;
    :mod:`twolane.jobs.measurements` says how, and what sums to expect.

    Raises:
        twolane.jobs.measurements.DatabaseError: not reachable, or it has fewer rows.
    """
    from twolane.jobs.measurements import add_up

    return await add_up(await _engine(ctx), rows)


async def on_startup(ctx: dict[str, Any]) -> None:
    """Load SQLAlchemy before the first job, whose loop the import would hold.

    Nothing is opened yet: most workers never query, and need no database.
    """
    import twolane.jobs.measurements  # noqa: F401  (loading it is the purpose)


async def on_shutdown(ctx: dict[str, Any]) -> None:
    """Close the database's connections."""
    if engine := ctx.pop(ENGINE, None):
        await engine.dispose()


async def _engine(ctx: dict[str, Any]) -> AsyncEngine:
    import asyncio  # not for the processes of the CPU lane, which load this module too

    from twolane.jobs.measurements import database_url, open_engine

    # Jobs that start together open one engine; the next job tries anew where opening failed.
    async with ctx.setdefault(OPENING, asyncio.Lock()):
        if ENGINE not in ctx:
            ctx[ENGINE] = await open_engine(database_url(ctx.get("database_url")))
    engine: AsyncEngine = ctx[ENGINE]
    return engine
