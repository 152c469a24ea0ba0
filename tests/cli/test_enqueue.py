"""Enqueuing from the command line: what is bad is one clear line, and nothing was enqueued."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import pty
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis.exceptions

from tests.cli.conftest import COMMAND, ROOT, SAMPLES, Background, Run
from twolane.broker import connect_blocking
from twolane.embedded import Embedded

CANARY = "c4n4ry"
MODULES = {
    "broken_jobs.py": "raise RuntimeError('over\\ntwo lines')",
    "leaving_jobs.py": "import sys; sys.exit(0)",
    "no_jobs.py": "x = 1",
    "wrong_jobs.py": "from twolane import job\n@job(timeout=0)\ndef one(): ...",
}

StartWorker = Callable[..., Any]


def assert_refused(ended: tuple[int, str, str], code: int, *words: str) -> None:
    assert ended[1] == ""
    assert ended[0] == code
    assert ended[2].startswith("Error: ")
    assert ended[2].count("\n") == 1, "one line"
    for word in words:
        assert word in ended[2]
    assert "Traceback" not in ended[2]


def write(path: Path, content: str | bytes) -> str:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return str(path)


# What is bad


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["primes", "--below", "1"], ["--below", "2<=x"]),
        (["primes", "--below", "ten"], ["--below", "'ten'"]),
        (["primes", "--chunks", "0"], ["--chunks", "x<=1000000"]),
        (["primes", "--method", "guess"], ["--method", "'guess'"]),
        (["primes", "--run", "a b"], ["run name 'a b'", "letters, digits"]),
        (["primes", "--run", ""], ["run name ''"]),
        (["primes", "--timeout", "soon"], ["--timeout", "not a duration"]),
        (["fetch", "--url", "ftp://host/file"], ["'url'", "ftp://host/file"]),
        (["fetch", "--url", "file:///etc/passwd"], ["'url'"]),
        (["fetch", "--url", "host"], ["'url'"]),
        (["fetch", "--count", "0"], ["--count"]),
        (["fetch", "--urls", "/no/such/file"], ["--urls", "No such file"]),
        (["query", "--rows", "0"], ["'rows'", "got 0"]),
        (["query", "--rows", "100_001"], ["'rows'", "100001"]),
        (["read"], ["--glob"]),
        (["read", "--glob", "no/such/*.file"], ["matches no file"]),
        (["read", "--glob", "/etc/passwd"], ["/etc/passwd: outside", "--files-root"]),
        (["job"], ["NAME"]),
        (["job", "nope"], ["unknown job 'nope'", "known: count_primes", "--jobs"]),
        (["job", "count_primes"], ["missing", "'low'", "count_primes(low: int"]),
        (["job", "count_primes", "low=0", "high=x"], ["'high'", "got 'x'", "int"]),
        (["job", "count_primes", "low=0", "high=5", "z=1"], ["'z'"]),
        (["job", "count_primes", "low=0", "high"], ["'high' is not KEY=VALUE"]),
        (["job", "count_primes", "=5"], ["'=5' is not KEY=VALUE"]),
        (["job", "count_primes", "--args", "{"], ["--args is not JSON", "character"]),
        (["job", "count_primes", "--args", "[1]"], ["--args is an array", "expected an object"]),
        (["job", "count_primes", "--args", "{}", "low=1"], ["not both"]),
        (["job", "echo", SAMPLES, f"value={2**70}"], ["'value'", "beyond 64 bits"]),
        (["job", "one", "--jobs", "no.such.module"], ["--jobs no.such.module", "No module named"]),
        (["job", "one", "--jobs", "broken_jobs"], ["--jobs broken_jobs", "over two lines"]),
        (["job", "one", "--jobs", "leaving_jobs"], ["--jobs leaving_jobs"]),
        (["job", "one", "--jobs", "no_jobs"], ["no_jobs", "holds no job"]),
        (["job", "one", "--jobs", "wrong_jobs"], ["wrong_jobs", "timeout=0"]),
        (["file", "/no/such/file"], ["No such file"]),
        (["file", "/"], ["Is a directory"]),
        (["mixed", "--fetches", "-1"], ["--fetches"]),
        (["mixed", "--rows", "0"], ["'rows'"]),
    ],
    ids=lambda value: " ".join(value)[:40] if isinstance(value, list) else "",
)
def test_bad_input_is_one_clear_line_and_nothing_is_enqueued(
    twolane: Run,
    is_empty: Callable[[], bool],
    tmp_path: Path,
    args: list[str],
    words: list[str],
) -> None:
    for name, text in MODULES.items():
        (tmp_path / name).write_text(text)
    with_samples = {"PYTHONPATH": str(ROOT)} if SAMPLES in args else {}

    ended = twolane("enqueue", *args, cwd=tmp_path, **with_samples)

    assert_refused(ended, 2, *words)
    assert is_empty()


GOOD = '{"job": "query", "args": {"rows": 1}}\n'


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (GOOD + "not json\n", ["line 2: it is not JSON", "nothing was enqueued", "--skip-bad"]),
        (GOOD + "\n\n[1]\n", ["line 4: it is an array"]),
        (GOOD + '"text"\n' * 2, ["line 2: it is a string", "and 1 more bad line)"]),
        (GOOD + "null\n", ["line 2: it is null"]),
        (GOOD + '{"args": {}}\n', ['line 2: it has no "job"']),
        (GOOD + '{"job": 5}\n', ["line 2"]),
        (GOOD + '{"job": "query", "argz": {}}\n', ["line 2: it has 'argz'"]),
        (GOOD + '{"job": "query", "args": [1]}\n', ['line 2: "args" is an array']),
        (GOOD + '{"job": "query", "args": {"rows": "1"}}\n', ["line 2: job 'query'", "'rows'"]),
        (GOOD + '{"job": "nope"}\n', ["line 2: unknown job 'nope'"]),
        (GOOD + '{"job": "query", "args": {"rows": 1' + "0" * 5000 + "}}\n", ["line 2"]),
        (GOOD + "[" * 100_000 + "\n", ["line 2: it is nested too deeply"]),
        (GOOD.encode() + b"\xff\xfe\x00binary\n", ["line 2: not UTF-8 text", "--skip-bad"]),
        (GOOD + "\0\n", ["line 2: it is not JSON"]),
        ("", ["nothing to enqueue"]),
        ("\n  \n", ["nothing to enqueue"]),
    ],
    ids=range(16),
)
def test_a_bad_file_names_its_line_and_nothing_is_enqueued(
    twolane: Run,
    is_empty: Callable[[], bool],
    tmp_path: Path,
    content: str | bytes,
    words: list[str],
) -> None:
    source = write(tmp_path / "jobs.jsonl", content)

    assert_refused(twolane("enqueue", "file", source), 2, *words)

    assert is_empty()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"\x89PNG\r\n\x1a\n\x00\xff", ["not UTF-8 text"]),
        ("", ["nothing to enqueue"]),
        ("http://host/\nftp://host/\n", ["line 2:", "ftp://host/"]),
    ],
)
def test_a_bad_list_of_urls_is_refused_whole(
    twolane: Run,
    is_empty: Callable[[], bool],
    tmp_path: Path,
    content: str | bytes,
    words: list[str],
) -> None:
    source = write(tmp_path / "urls.txt", content)

    assert_refused(twolane("enqueue", "fetch", "--urls", source), 2, *words)

    assert is_empty()


def test_a_link_out_of_the_roots_is_refused(
    twolane: Run, is_empty: Callable[[], bool], tmp_path: Path
) -> None:
    (tmp_path / "inside").mkdir()
    (tmp_path / "secret.txt").write_text("secret")
    (tmp_path / "inside" / "link.txt").symlink_to(tmp_path / "secret.txt")

    ended = twolane("enqueue", "read", "--glob", "*.txt", cwd=tmp_path / "inside")

    assert_refused(ended, 2, "link.txt: outside")
    assert is_empty()


def test_a_run_name_that_is_taken_is_refused(twolane: Run) -> None:
    assert twolane("enqueue", "query", "--run", "mine").code == 0

    assert_refused(twolane("enqueue", "query", "--run", "mine"), 2, "'mine' exists", "--run")

    assert json.loads(twolane("runs", "--json").out)[0]["total"] == 1


# What is good


def test_good_lines_are_enqueued_where_bad_ones_are_skipped(twolane: Run, tmp_path: Path) -> None:
    bad = "".join(f"bad {number}\n" for number in range(12))
    source = write(tmp_path / "jobs.jsonl", GOOD + bad + GOOD)

    code, out, err = twolane("enqueue", "file", source, "--skip-bad", "--run", "kept")

    assert (code, out) == (0, "kept\n")
    assert err.splitlines()[0].startswith("skipped line 2: it is not JSON")
    assert "skipped 2 more bad lines" in err
    assert "2 jobs enqueued" in err


@pytest.mark.parametrize("source", ["FILE", "-"])
def test_a_line_that_is_not_utf_8_is_a_bad_line_like_others(
    twolane: Run, tmp_path: Path, source: str
) -> None:
    content = b"\xef\xbb\xbf" + GOOD.encode() + b'{"job": "caf\xe9"}\r\n' + GOOD.encode()
    path = write(tmp_path / "jobs.jsonl", content) if source == "FILE" else "-"

    ended = twolane("enqueue", "file", path, "--skip-bad", "--json", stdin=content)

    assert ended.err == "skipped line 2: not UTF-8 text\n"
    assert json.loads(ended.out)["jobs"] == 2


def test_a_byte_order_mark_is_passed_over(twolane: Run, tmp_path: Path) -> None:
    source = write(tmp_path / "jobs.jsonl", b"\xef\xbb\xbf" + GOOD.encode())

    assert twolane("enqueue", "file", source).code == 0


def test_jobs_are_read_from_standard_input(twolane: Run) -> None:
    code, out, _ = twolane("enqueue", "file", "-", "--json", "--run", "piped", stdin=GOOD * 3)

    assert code == 0
    assert json.loads(out) == {"run": "piped", "jobs": 3}


def test_the_runs_name_is_the_data_and_the_rest_a_message(twolane: Run) -> None:
    code, out, err = twolane("enqueue", "primes", "--below", "1_000", "--chunks", "4")

    assert code == 0
    (name,) = out.split()
    assert name.startswith("primes-")
    assert err == f"4 jobs enqueued; follow the run: twolane runs show {name} --wait\n"


def test_a_range_is_never_split_into_more_jobs_than_numbers(twolane: Run) -> None:
    _, out, _ = twolane("enqueue", "primes", "--below", "3", "--chunks", "100", "--json")

    assert json.loads(out)["jobs"] == 3


# The broker


@pytest.fixture(scope="module")
def locked() -> Iterator[int]:
    """The port of a server with a password."""
    with Embedded.private() as server, connect_blocking(server.url, 5) as client:
        while True:
            with socket.socket() as probe:
                probe.bind(("127.0.0.1", 0))
                port: int = probe.getsockname()[1]
            with contextlib.suppress(redis.exceptions.ResponseError):  # taken in the meantime
                client.config_set("port", port)
                break
        client.config_set("requirepass", CANARY + "-right")
        yield port


@pytest.mark.parametrize(
    "command", [["enqueue", "query"], ["runs"], ["status", "--json"], ["worker", "io"]], ids=str
)
def test_a_wrong_password_is_refused_and_never_shown(
    twolane: Run, locked: int, command: list[str]
) -> None:
    url = f"redis://user:{CANARY}-wrong@127.0.0.1:{locked}/0"

    code, out, err = twolane(*command, TWOLANE_BROKER=url)

    assert (code, out) == (3, "")
    assert "refuses the user name or password" in err
    assert CANARY not in err
    assert "Traceback" not in err


def test_a_missing_password_is_said(twolane: Run, locked: int) -> None:
    ended = twolane("enqueue", "query", "--broker", f"redis://127.0.0.1:{locked}/0")

    assert_refused(ended, 3, "wants a password")


def test_an_unreachable_broker_is_said_with_what_to_do(twolane: Run) -> None:
    ended = twolane("enqueue", "query", TWOLANE_BROKER=f"redis://:{CANARY}@127.0.0.1:1/0")

    assert_refused(
        ended, 3, "no Valkey or Redis answers at redis://***@127.0.0.1:1/0", "twolane up"
    )
    assert CANARY not in ended.err


def test_no_broker_at_all_names_both_ways_to_have_one(twolane: Run) -> None:
    ended = twolane("enqueue", "query", TWOLANE_BROKER="")

    assert_refused(ended, 3, "twolane up", "--broker", "TWOLANE_BROKER")


@pytest.mark.parametrize("url", [f"http://:{CANARY}@host", f"redis://:{CANARY}@h:port", CANARY])
def test_a_malformed_broker_url_is_a_usage_error_that_does_not_repeat_it(
    twolane: Run, url: str
) -> None:
    ended = twolane("enqueue", "query", "--broker", url)

    assert_refused(ended, 2, "not a broker URL")
    assert CANARY not in ended.err


# Waiting


async def test_a_run_is_waited_for_and_compared(twolane: Run, start_worker: StartWorker) -> None:
    await start_worker("io")

    code, out, err = twolane(
        "enqueue", "job", "echo", "value=[1, 2]", SAMPLES, "--count", "20", "--wait", "--run", "ok"
    )

    assert code == 0
    assert out.splitlines()[0] == "run ok: 20 of 20 jobs"
    assert out.splitlines()[2].split()[:4] == ["io", "echo", "20", "0"]
    assert err == "run ok: 20 jobs enqueued\n"


async def test_with_json_the_comparison_is_data(twolane: Run, start_worker: StartWorker) -> None:
    await start_worker("cpu", "--processes=2")

    code, out, err = twolane(
        "enqueue", "primes", "--below", "1_000_000", "--chunks", "8", "--wait", "--json"
    )

    assert (code, err) == (0, "")
    found = json.loads(out)
    assert set(found) == {"run", "comparison", "primes", "failures"}
    assert (found["run"]["total"], found["run"]["done"]) == (8, 8)
    assert found["comparison"][0]["job"] == "count_primes"
    assert found["primes"] == [
        {"method": "sieve", "below": 1_000_000, "count": 78_498, "known": 78_498, "right": True}
    ]
    assert found["failures"] == []


async def test_a_job_that_fails_is_exit_code_4_and_told_of(
    twolane: Run, start_worker: StartWorker
) -> None:
    await start_worker("io")

    code, out, _ = twolane("enqueue", "job", "fail", SAMPLES, "--wait", "--run", "bad")

    assert code == 4
    assert "1 × ValueError, for example: bad-0000000: as asked" in out
    assert "`twolane dead list --run bad`" in out


async def test_what_a_failing_job_says_cannot_act_on_the_terminal(
    twolane: Run, start_worker: StartWorker
) -> None:
    await start_worker("io")
    arguments = ("job", "fail_with_controls", SAMPLES, "--wait", "--run", "nasty")

    ended = [
        twolane("enqueue", *arguments),
        twolane("runs", "show", "nasty", "--json"),
        twolane("runs", "collect", "nasty"),
        twolane("dead", "list", "--traceback"),
        twolane("dead", "list", "--json"),
    ]

    for one in ended:
        assert "ValueError" in one.out
        for dangerous in "\x1b\x07\x9b\u202e":
            assert dangerous not in one.out + one.err


def test_when_the_time_is_over_the_run_goes_on(twolane: Run) -> None:
    code, out, err = twolane(
        "enqueue", "query", "--wait", "--timeout", "300ms", "--run", "slow", "--count", "2"
    )

    assert (code, out) == (5, "")
    lines = err.splitlines()
    assert lines[0] == "run slow: 2 jobs enqueued"
    assert lines[-1].startswith("Error: run slow: 0 of 2 jobs done")
    assert "`twolane runs show slow --wait`" in lines[-1]
    assert "Traceback" not in err
    assert json.loads(twolane("status", "--json").out)["lanes"][0]["waiting"] == 2


def test_who_waits_for_a_lane_without_a_worker_is_told(twolane: Run) -> None:
    _, _, err = twolane("enqueue", "query", "--wait", "--timeout", "2s")

    assert err.count("no io worker is running; start one: `twolane worker io`") == 1
    assert "cpu" not in err


async def test_ctrl_c_while_waiting_says_how_to_follow_and_to_cancel(
    twolane: Run, background: Callable[..., Background]
) -> None:
    waiting = background("enqueue", "query", "--wait", "--run", "left")
    assert waiting.process.stderr is not None
    assert await asyncio.to_thread(waiting.process.stderr.readline) == "run left: 1 job enqueued\n"
    # The warning of the missing worker comes when the wait is well on its way.
    assert "no io worker" in await asyncio.to_thread(waiting.process.stderr.readline)

    waiting.process.send_signal(signal.SIGINT)
    out, err = await asyncio.to_thread(waiting.process.communicate, timeout=20)

    assert (waiting.process.returncode, out) == (130, "")
    assert [line for line in err.splitlines() if line] == [
        "run left goes on: `twolane runs show left --wait`, `twolane cancel left`",
        "interrupted",
    ]
    assert twolane("cancel", "left").code == 0


LOST_INTERRUPT = """
import asyncio, os, signal, sys
from producer.cli.session import run

async def work():
    os.kill(os.getpid(), signal.SIGINT)
    sum(range(1_000_000))
    try:
        async with asyncio.timeout(0):
            await asyncio.Event().wait()
    except TimeoutError:
        pass
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    print("went on")

try:
    run(work)
except KeyboardInterrupt:
    print("interrupted")
"""


def test_ctrl_c_is_not_lost_in_the_midst_of_work() -> None:
    """asyncio's own handler cancels a task while it runs. redis-py then looks at its connection
    with a timeout of 0, takes the pending cancellation for that timeout, and the wait went on: of
    Ctrl-Cs that came while results were read, one in five did nothing."""
    ended = subprocess.run(
        [sys.executable, "-c", LOST_INTERRUPT], cwd=ROOT, capture_output=True, text=True,
        timeout=60, check=False,
    )  # fmt: skip

    assert (ended.stdout, ended.stderr) == ("interrupted\n", "")


async def test_a_terminal_gets_bars_and_the_data_stays_bare(
    twolane: Run, start_worker: StartWorker
) -> None:
    await start_worker("io")
    ours, theirs = pty.openpty()
    process = await asyncio.create_subprocess_exec(
        *COMMAND, "enqueue", "job", "echo", SAMPLES, "--count", "5", "--wait",
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=theirs, cwd=ROOT,
        env={**os.environ, "TERM": "xterm", "NO_COLOR": "1"},
    )  # fmt: skip
    os.close(theirs)
    showing = asyncio.create_task(asyncio.to_thread(read_terminal, ours))
    out, _ = await process.communicate()
    shown = await showing
    os.close(ours)

    assert process.returncode == 0
    assert "io lane" in shown
    assert "5/5" in shown
    assert "\x1b[3" not in shown, "colour in spite of NO_COLOR"
    assert b"\x1b" not in out


def read_terminal(descriptor: int) -> str:
    """What is written to a pseudo-terminal until its other side is closed."""
    shown = bytearray()
    with contextlib.suppress(OSError):  # Linux says EIO for the end, macOS nothing
        while chunk := os.read(descriptor, 65536):
            shown += chunk
    return shown.decode()
