"""What a run of the benchmark has found, as it is kept in JSON."""

from __future__ import annotations

import msgspec


class Sample(msgspec.Struct, omit_defaults=True):
    """One measurement. ``values`` by a measure's key; empty where ``error`` says what failed.

    ``cpu_seconds`` are those of the contestant's workers, ``server_*`` those of Valkey, while the
    jobs ran.
    """

    workload: str
    contestant: str
    round: int
    values: dict[str, float] = {}
    jobs: int = 0
    completed: int = 0
    seconds: float = 0.0
    cpu_seconds: float = 0.0
    server_cpu_seconds: float = 0.0
    server_calls: dict[str, int] = {}
    server_micros: dict[str, int] = {}
    details: list[float] = []
    error: str = ""


class Setup(msgspec.Struct):
    """What was set for one contestant in one workload."""

    workload: str
    contestant: str
    settings: str


class Machine(msgspec.Struct):
    """Where it ran."""

    processor: str
    cores: int
    memory_gb: float
    kernel: str
    python: str
    valkey: str
    load_before: float


class Report(msgspec.Struct):
    """A whole run."""

    profile: str
    commit: str
    began: str
    command: str
    rounds: int
    machine: Machine
    loops_per_ms: int
    versions: dict[str, dict[str, str]]
    setups: list[Setup]
    samples: list[Sample]
    seconds: float = 0.0


def dump(report: Report) -> bytes:
    return msgspec.json.format(msgspec.json.encode(report), indent=1)


def load(data: bytes) -> Report:
    return msgspec.json.decode(data, type=Report)
