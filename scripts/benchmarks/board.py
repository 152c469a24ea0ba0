"""The file in shared memory on which each job notes when it ran, and in which process.

It costs every contestant the same, some 0.2 microseconds a job, needs no message, and works with
threads, processes and forks alike: each job writes to its own place, so nothing is shared.
"""

from __future__ import annotations

import mmap
import os
from pathlib import Path
from time import monotonic_ns

NUMBER_BYTES = 8


class Board:
    """Two arrays of 64-bit numbers, one place a job: the monotonic time in ns, the process id.

    CLOCK_MONOTONIC is one clock for all processes of a machine (Linux and macOS).
    """

    def __init__(self, path: str) -> None:
        with open(path, "r+b") as file:
            self._map = mmap.mmap(file.fileno(), 0)
        numbers = memoryview(self._map).cast("Q")
        self.places = len(numbers) // 2
        self.times = numbers[: self.places]
        self.processes = numbers[self.places :]

    @classmethod
    def create(cls, path: Path, places: int) -> Board:
        with path.open("wb") as file:
            file.truncate(2 * places * NUMBER_BYTES)
        return cls(str(path))

    def mark(self, index: int) -> None:
        self.processes[index] = os.getpid()
        self.times[index] = monotonic_ns()
