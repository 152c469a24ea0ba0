"""An application as people write them for arq: it knows nothing of this project."""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path
from typing import Any

import msgspec
from arq import Retry, cron, func
from arq.connections import RedisSettings
from arq.worker import RetryJob

NOTES = Path(os.environ.get("ARQ_APP_NOTES", "."))
REDIS = RedisSettings(
    unix_socket_path=os.environ.get("ARQ_APP_SOCKET", ""), conn_retries=0, conn_timeout=5
)


def note(name: str) -> None:
    (NOTES / name).touch()


async def add(ctx: dict[str, Any], left: int, right: int) -> int:
    return left + right


async def hold(ctx: dict[str, Any], name: str) -> str:
    """Wait until there is a file ``go``; each attempt notes its beginning, a cancelled one that."""
    mark = f"{name}.{ctx['job_try']}.{os.getpid()}"
    note(mark)
    try:
        while not (NOTES / "go").exists():  # noqa: ASYNC110  (another process makes the file)
            await asyncio.sleep(0.01)
    except asyncio.CancelledError:
        note(f"{mark}.cancelled")
        raise
    return mark


async def first_holds(ctx: dict[str, Any]) -> int:
    if ctx["job_try"] == 1:
        await hold(ctx, "first")
    return int(ctx["job_try"])


async def block(ctx: dict[str, Any], seconds: float) -> int:
    note(f"block.{ctx['job_try']}")
    time.sleep(seconds)  # noqa: ASYNC251  (that is what it is about)
    return int(ctx["job_try"])


async def again(ctx: dict[str, Any], how: str) -> int:
    if ctx["job_try"] < 3:
        raise Retry(defer=0.02) if how == "retry" else RetryJob
    return int(ctx["job_try"])


async def fail(ctx: dict[str, Any], message: str) -> None:
    raise ValueError(message)


async def leave(ctx: dict[str, Any]) -> None:
    raise SystemExit(3)


async def alone(ctx: dict[str, Any]) -> int:
    """Runs in arq's workers and in ours, and notices another attempt at the same job."""
    redis, job_id = ctx["redis"], ctx["job_id"]
    assert await redis.set(f"test:lock:{job_id}", 1, nx=True), "it runs twice"
    await asyncio.sleep(0.005)
    return os.getpid()


async def parent(ctx: dict[str, Any]) -> str:
    made = await ctx["redis"].enqueue_job("add", 1, 2, _job_id="child")
    assert made is not None
    return str(made.job_id)


async def tick(ctx: dict[str, Any]) -> None:
    await ctx["redis"].rpush("test:ticks", ctx["job_id"])


async def on_startup(ctx: dict[str, Any]) -> None:
    ctx["mine"] = "made at startup"
    note("startup")


async def on_shutdown(ctx: dict[str, Any]) -> None:
    assert ctx["mine"] == "made at startup"
    note("shutdown")


class WorkerSettings:
    functions = (
        add, hold, first_holds, block, again, fail, leave, alone, parent, "tests.e2e.arq_app.tick",
        func(hold, name="short", timeout=0.05), func(again, name="twice", max_tries=2),
        func(add, name="forgotten", keep_result=0),
        func(add, name="kept", keep_result_forever=True),
    )  # fmt: skip
    redis_settings = REDIS
    on_startup = on_startup
    on_shutdown = on_shutdown
    allow_abort_jobs = True
    poll_delay = 0.05


class Patient:
    """Waits for its jobs when it is told to end."""

    functions = (hold,)
    redis_settings = REDIS
    on_shutdown = None
    job_completion_wait = 30
    poll_delay = 0.05


class Cron:
    cron_jobs = (cron(tick, second=set(range(60)), microsecond=0, keep_result=3600),)
    redis_settings = REDIS


async def told(ctx: dict[str, Any], hook: str) -> None:
    known = {"redis", "job_id", "job_try", "enqueue_time", "score"} <= set(ctx)
    await ctx["redis"].rpush("test:hooks", f"{hook} {ctx.get('job_id')} {known}")


async def say(ctx: dict[str, Any]) -> None:
    await told(ctx, "job")


async def say_startup(ctx: dict[str, Any]) -> None:
    await told(ctx, "on_startup")


async def say_shutdown(ctx: dict[str, Any]) -> None:
    await told(ctx, "on_shutdown")


async def say_start(ctx: dict[str, Any]) -> None:
    await told(ctx, "on_job_start")


async def say_end(ctx: dict[str, Any]) -> None:
    recorded = await ctx["redis"].exists(f"arq:result:{ctx['job_id']}")
    await told(ctx, f"on_job_end recorded={recorded}")


async def say_after(ctx: dict[str, Any]) -> None:
    recorded = await ctx["redis"].exists(f"arq:result:{ctx['job_id']}")
    await told(ctx, f"after_job_end recorded={recorded}")


class Hooks:
    functions = (say,)
    redis_settings = REDIS
    on_startup = say_startup
    on_shutdown = say_shutdown
    on_job_start = say_start
    on_job_end = say_end
    after_job_end = say_after
    burst = True


class Packed:
    """MessagePack in the place of pickle, as arq's documentation shows it."""

    functions = (add,)
    redis_settings = REDIS
    job_serializer = msgspec.msgpack.encode
    job_deserializer = msgspec.msgpack.decode
    burst = True


class Slow:
    """Polls so seldom that only a call can wake it."""

    functions = (add, parent, hold)
    redis_settings = REDIS
    poll_delay = 3600
    allow_abort_jobs = True


async def no_database(ctx: dict[str, Any]) -> None:
    raise ConnectionRefusedError("the application's database")


class Unlucky:
    """Its start fails with an error of a kind that a server's absence has, too."""

    functions = (add,)
    redis_settings = REDIS
    on_startup = no_database


class Stranger:
    functions = (add,)
    redis_settings = RedisSettings(
        unix_socket_path=REDIS.unix_socket_path, username="nobody", password="s3cret",
        conn_retries=0,
    )  # fmt: skip


class FarAway:
    functions = (add,)
    redis_settings = RedisSettings(unix_socket_path=REDIS.unix_socket_path, database=999)


LOGGING = {  # it turns off the loggers that it does not name, unless it is told otherwise
    "version": 1,
    "handlers": {"console": {"class": "logging.StreamHandler", "formatter": "plain"}},
    "formatters": {"plain": {"format": "%(name)s says %(message)s"}},
    "loggers": {"arq": {"handlers": ["console"], "level": "INFO"}},
}
