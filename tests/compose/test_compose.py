"""The compose file, as its users meet it: up, enqueue, scale, kill, stop, down.

The tests share one project and go from the first to the last; each leaves it up, as it found it.
"""

from __future__ import annotations

import ipaddress
import json
import os
import signal
import subprocess
import sys
from collections import Counter

import pytest

from tests.compose.project import ROOT, TARGET, WORKERS, Project, wait_for

pytestmark = [pytest.mark.compose, pytest.mark.timeout(600)]

# π(n), OEIS A006880; the counts take some 4 s and 40 s of one core.
PRIMES = {1_000_000_000: 50_847_534, 10_000_000_000: 455_052_511}
CHUNKS, QUERIES = 250, 200
# An entry of a run's stream holds several outcomes.
OUTCOMES = (
    "local count = 0 for _, entry in ipairs(redis.call('XRANGE', KEYS[1], '-', '+')) do "
    "count = count + #entry[2] / 2 end return count"
)
OF_A_FREEZE = 20  # seconds until three probes 5 s apart have seen a file that is 5 s old


def enqueue_mixed(project: Project, name: str, fetches: int, below: int) -> int:
    """A run that outlasts what is done to its workers; its number of jobs."""
    project.producer(
        "enqueue", "mixed", "--run", name, "--fetches", str(fetches), "--queries", str(QUERIES),
        "--below", str(below), "--chunks", str(CHUNKS),
    )  # fmt: skip
    return fetches + QUERIES + CHUNKS


def check_going_on(project: Project, name: str) -> None:
    """What was just done fell into the run: otherwise it would have proved nothing."""
    run = project.run(name)
    assert run["done"] < run["total"], "the run ended too early for the test; make it larger"


def wait_over(project: Project, name: str) -> None:
    """Until each job's outcome has been seen; one that is not recorded ends the wait in vain."""
    project.producer("runs", "show", name, "--wait", "--timeout", "150s", seconds=180)


def check_every_job_once(project: Project, name: str, jobs: int, before: int) -> None:
    """Each job of a run that is over is recorded once, and nothing is left of any."""
    shown = json.loads(project.producer("runs", "show", name, "--json").out)
    outcomes = project.outcomes(name)

    assert (shown["run"]["total"], shown["run"]["done"]) == (jobs, jobs)
    assert sorted(one["id"] for one in outcomes) == [f"{name}-{n:07d}" for n in range(jobs)]
    assert Counter(one["status"] for one in outcomes) == {"done": jobs}
    assert int(project.valkey("EVAL", OUTCOMES, "1", f"twolane:run:{name}:outcomes")) == jobs
    assert project.done() - before == jobs
    assert project.leased() == []
    assert [project.valkey("ZCARD", queue) for queue in ("arq:queue", "arq:queue:cpu")] == ["0"] * 2
    (check,) = shown["primes"]
    assert (check["count"], check["right"]) == (PRIMES[check["below"]], True)


# -- Up --


def test_the_whole_file_becomes_healthy(project: Project) -> None:
    states = {
        one["Config"]["Labels"]["com.docker.compose.service"]: one["State"]
        for one in project.inspect()
    }

    assert states.keys() == {"passwords", "valkey", "postgres", "target", *WORKERS}
    passwords = states.pop("passwords")
    assert (passwords["Status"], passwords["ExitCode"]) == ("exited", 0)
    assert {name: state["Health"]["Status"] for name, state in states.items()} == dict.fromkeys(
        states, "healthy"
    )


def test_a_mixed_run_ends_with_its_comparison_and_rows_from_postgresql(project: Project) -> None:
    ended = project.compose(
        "run", "--rm", "--no-TTY", "producer", "enqueue", "mixed", "--wait", "--run", "first"
    )

    assert "run first: 282 of 282 jobs" in ended.out
    assert "wait p50/p95/p99" in ended.out
    assert "sieve: 664,579 primes below 10,000,000" in ended.out
    outcomes = project.outcomes("first")
    assert Counter(one["job"] for one in outcomes) == {
        "fetch": 200, "query": 50, "count_primes": 32,
    }  # fmt: skip
    databases = {one["result"]["database"] for one in outcomes if one["job"] == "query"}
    assert databases == {"postgresql"}


def test_the_settings_of_the_env_file_take_effect(
    project: Project, settings: dict[str, object]
) -> None:
    (io,), (cpu,) = project.workers("io"), project.workers("cpu")
    (target,) = project.inspect("target")

    assert (io["slots"], cpu["slots"]) == (10, 2)
    assert project.valkey("CONFIG", "GET", "appendfsync").split() == ["appendfsync", "always"]
    assert target["NetworkSettings"]["Ports"]["8080/tcp"] == [
        {"HostIp": "127.0.0.1", "HostPort": str(settings["TARGET_PORT"])}
    ]
    assert "40ms" in target["Args"]
    assert next(project.passwords()) == settings["VALKEY_PASSWORD"]


def test_the_slots_of_a_cpu_worker_follow_its_quota(
    project: Project, settings: dict[str, object]
) -> None:
    project.set(**{**settings, "CPU_WORKER_CPUS": 1})
    project.up("--no-deps", "cpu-worker")
    (cpu,) = project.workers("cpu")
    project.set(**settings)
    project.up("--no-deps", "cpu-worker")

    assert cpu["slots"] == 1
    assert [one["slots"] for one in project.workers("cpu")] == [2]


# -- What a container may do, and what it shows --


def test_nothing_is_published_beyond_this_machine(project: Project) -> None:
    published = [
        ipaddress.ip_address(each["HostIp"])
        for one in project.inspect()
        for bindings in one["NetworkSettings"]["Ports"].values()
        for each in bindings or []
    ]

    assert published
    assert all(one.is_loopback for one in published)


@pytest.mark.parametrize("service", [*WORKERS, "target", "valkey"])
def test_a_service_can_write_nowhere_and_become_nobody(project: Project, service: str) -> None:
    (one,) = project.inspect(service)
    host = one["HostConfig"]
    probe = "id -u; grep -h CapEff /proc/self/status; (echo >/srv/probe) 2>/dev/null || echo no"
    user, capabilities, wrote = project.compose(
        "exec", "-T", service, "sh", "-c", probe
    ).out.splitlines()

    assert host["ReadonlyRootfs"]
    assert host["CapDrop"] == ["ALL"]
    assert host["SecurityOpt"] == ["no-new-privileges:true"]
    assert host["Memory"] > 0 or service not in WORKERS
    assert int(user) > 0
    assert int(capabilities.split()[1], 16) == 0
    assert wrote == "no"


def test_no_password_is_shown(project: Project) -> None:
    shown = json.dumps(project.inspect()) + project.logs()
    for container in project.containers():
        shown += project.docker("top", container, "-eo", "args", ok=(0, 1)).out

    for password in project.passwords():
        assert len(password) > 10
        assert password not in shown


def test_each_service_has_its_own_user_and_the_passwords_of_its_work_alone(
    project: Project,
) -> None:
    def user(service: str) -> str:
        probe = "import asyncio, os; from twolane import broker\n" \
            "async def main():\n" \
            "    client = broker.connect(broker.resolve(None))\n" \
            "    try: print(await client.execute_command('CONFIG', 'GET', 'dir'))\n" \
            "    except Exception as error: print(error)\n" \
            "    print(sorted(os.listdir('/run/passwords')))\n" \
            "asyncio.run(main())"  # fmt: skip
        return project.compose(
            "run", "--rm", "--no-TTY", "--no-deps", "--entrypoint", "python", service, "-c", probe
        ).out

    worker, producer = user("io-worker"), user("producer")
    users = project.valkey("ACL", "LIST")

    assert "User worker has no permissions to run the 'config|get' command" in worker
    assert "User producer has no permissions to run the 'config|get' command" in producer
    assert worker.splitlines()[-1] == "['postgres', 'valkey']"
    assert producer.splitlines()[-1] == "['valkey']"
    assert {line.split()[1] for line in users.splitlines()} == {
        "default", "producer", "worker", "dashboard",
    }  # fmt: skip


def test_a_wrong_password_is_one_line_and_exit_code_3(project: Project) -> None:
    code, out, err = project.compose(
        "run", "--rm", "--no-TTY", "--no-deps",
        "--env", "TWOLANE_BROKER=redis://:wrong@valkey:6379", "producer", "status", ok=(),
    )  # fmt: skip

    assert (code, out) == (3, "")
    (line,) = [one for one in err.splitlines() if not one.startswith(" Container")]
    assert "password" in line
    assert "wrong" not in line.replace("wrong password", "")


# -- Workers come and go --


def signal_main(project: Project, container: str, name: str) -> None:
    """Signal a worker itself, behind the init process that Docker's own signals go to."""
    code = (
        "import os, pathlib, signal\n"
        "(child,) = pathlib.Path('/proc/1/task/1/children').read_text().split()\n"
        f"os.kill(int(child), signal.{name})"
    )
    # A container that ends takes with it what was executed in it: 137.
    project.docker("exec", container, "python", "-c", code, ok=(0, 137))


def test_workers_that_come_die_and_freeze_within_a_run_lose_and_double_nothing(
    project: Project,
) -> None:
    before = project.done()
    jobs = enqueue_mixed(project, "scaled", fetches=8_000, below=10_000_000_000)
    project.compose(
        "up", "--detach", "--no-recreate", "--scale", "io-worker=3", "--scale", "cpu-worker=3"
    )

    def all_take_part() -> bool:
        working = Counter(one["lane"] for one in project.status()["workers"] if one.get("done"))
        return working == {"io": 3, "cpu": 3}

    wait_for(all_take_part, "three workers a lane with jobs done", 60)
    killed, frozen, _ = project.containers("io-worker")
    crashed = project.containers("cpu-worker")[0]
    project.docker("kill", "--signal", "KILL", killed)
    signal_main(project, frozen, "SIGSTOP")
    signal_main(project, crashed, "SIGKILL")
    check_going_on(project, "scaled")
    wait_over(project, "scaled")
    health = wait_for(lambda: _bad_health(project, frozen), "an unhealthy worker", OF_A_FREEZE + 10)
    signal_main(project, frozen, "SIGCONT")  # it comes back with jobs that others have done
    refused = wait_for(lambda: _refused(project), "outcomes that were refused")

    assert health == "unhealthy"
    assert refused
    check_every_job_once(project, "scaled", jobs, before)
    retried = {one["lane"] for one in project.outcomes("scaled") if one["try"] > 1}
    assert retried == {"io", "cpu"}
    # Docker does not start again what it was told to kill; what dies by itself it does.
    (io,), (cpu,) = project.look(killed), project.look(crashed)
    assert (io["State"]["Running"], io["State"]["ExitCode"]) == (False, 137)
    assert (cpu["State"]["Running"], cpu["RestartCount"]) == (True, 1)
    wait_for(lambda: not _bad_health(project, frozen), "a healthy worker")
    project.up("--scale", "io-worker=1", "--scale", "cpu-worker=1")


def _bad_health(project: Project, container: str) -> str:
    (one,) = project.look(container)
    status = str(one["State"]["Health"]["Status"])
    return "" if status == "healthy" else status


def _refused(project: Project) -> int:
    """What workers that lost their leases were not allowed to record."""
    found = project.status()
    told = sum(lane["counters"].get("fenced", 0) for lane in found["lanes"])
    return int(told + sum(one.get("fenced", 0) for one in found["workers"]))


def test_stopping_workers_under_load_leaves_no_job_running(project: Project) -> None:
    before = project.done()
    # It outlasts the workers' grace period: it can only be handed back.
    project.producer(
        "enqueue", "job", "count_primes", "low=0", "high=1_000_000_000", "method=trial",
        "--run", "endless",
    )  # fmt: skip
    wait_for(lambda: len(project.leased()) == 1, "a job that runs", 20)
    jobs = enqueue_mixed(project, "stopped", fetches=2_500, below=1_000_000_000)
    wait_for(lambda: project.run("stopped")["done"], "the run to begin", 20)

    project.compose("stop", *WORKERS)

    assert project.leased() == []
    assert set(project.exit_codes(*WORKERS).values()) == {0}
    assert project.status()["workers"] == []
    check_going_on(project, "stopped")
    lanes = {lane["lane"]: lane for lane in project.status()["lanes"]}
    assert lanes["cpu"]["counters"]["released"] >= 1
    project.producer("cancel", "endless")
    project.up()
    wait_over(project, "stopped")
    check_every_job_once(project, "stopped", jobs, before)


# -- The laboratory --


def measuring(project: Project, settings: dict[str, object], *words: str) -> subprocess.Popen[str]:
    """``twolane scale --compose`` from this machine, with what the .env file says."""
    variables = {name: str(value) for name, value in settings.items()}
    return subprocess.Popen(
        [sys.executable, "-m", "twolane", "scale", "--compose", "--project-name", project.name,
         "--lane", "io", *words],
        cwd=ROOT, env={**os.environ, **variables}, stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip


def test_a_lane_is_scaled_and_measured_and_the_fleet_is_left_as_it_was_found(
    project: Project, settings: dict[str, object]
) -> None:
    project.up("--no-recreate", "--scale", "cpu-worker=2")
    before, others = project.services(), project.containers("cpu-worker", "valkey", "target")

    words = ("--workers", "1,2", "--rounds", "1", "--window", "500ms", "--warm-up", "0", "--json")
    process = measuring(project, settings, *words)
    out, said = process.communicate(timeout=90)

    assert process.returncode == 0, said
    found = json.loads(out)
    assert sorted((one["workers"], one["slots"]) for one in found["points"]) == [(1, 10), (2, 20)]
    assert all(one["failed"] == 0 and one["throughput"] > 20 for one in found["points"])
    assert all(one["busy"]["broker"] > 0 for one in found["points"])
    assert all("workers" in one["busy"]["others"] for one in found["points"])
    assert found["environment"]["broker"].startswith("Valkey ")
    assert f"io-worker of compose project {project.name} (1 CPU, 256 MiB each)" in said
    assert project.services() == before
    assert project.containers("cpu-worker", "valkey", "target") == others, "not touched at all"
    project.up("--no-recreate", "--scale", "cpu-worker=1")


def test_ctrl_c_ends_the_measurement_in_its_container_and_scales_back(
    project: Project, settings: dict[str, object]
) -> None:
    process = measuring(project, settings, "--workers", "1", "--window", "60s")
    wait_for(lambda: any(one.get("busy") for one in project.workers("io")), "jobs that run", 60)

    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)

    assert process.returncode == 130, said
    named = project.docker("ps", "--all", "--format", "{{.Names}}").out.split()
    assert [one for one in named if one.startswith(f"{project.name}-measures-")] == []
    assert len(project.containers("io-worker")) == 1
    assert project.valkey("ZCARD", "arq:queue") == "0"
    assert project.leased() == []


# -- Down --


def test_down_by_sigterm_keeps_the_data_and_kills_nothing(
    project: Project, settings: dict[str, object]
) -> None:
    outcomes = project.outcomes("first")
    project.producer("enqueue", "fetch", "--url", TARGET, "--count", "500", "--run", "last")

    project.compose("stop")
    codes = project.exit_codes()
    project.compose("down")
    # PostgreSQL keeps the password that its volume was made with.
    project.set(**{**settings, "POSTGRES_PASSWORD": "another-than-before"})
    project.up()

    assert len(codes) == 6
    assert {name: code for name, code in codes.items() if code == 137} == {}
    assert {code for name, code in codes.items() if "worker" in name} == {0}
    assert project.outcomes("first") == outcomes
    project.producer("runs", "show", "last", "--wait", "--timeout", "60s")
    query = project.producer("enqueue", "query", "--wait", "--json", ok=(4,))
    (failure,) = json.loads(query.out)["failures"]
    assert failure["error"] == "DatabaseError"
    assert "password authentication failed" in failure["example"]
    assert "keeps the password that its data was made with" in failure["example"]
