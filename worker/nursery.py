"""Loaded by the forkserver alone, before its first fork: what every process of the pool has anyway.

Importing it moves the importing process into a process group of its own, so that a signal to the
worker's whole group (Ctrl-C, ``timeout``, a process manager) leaves the forkserver to the worker,
which drains first. The forkserver still ends with the worker: it reads the end of a pipe.
"""

import contextlib
import os

import worker.child  # noqa: F401  (forked processes find it, and what it imports, loaded)

with contextlib.suppress(OSError):
    os.setpgid(0, 0)
