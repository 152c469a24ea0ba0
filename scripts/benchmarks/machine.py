"""Tells what machine this is, and what code."""

from __future__ import annotations

import os
import platform
import subprocess
from pathlib import Path

import psutil

from benchmarks.environments import ROOT
from benchmarks.report import Machine
from twolane.cores import usable_cores


def describe(valkey: str) -> Machine:
    return Machine(
        processor=_processor(),
        cores=usable_cores(),
        memory_gb=psutil.virtual_memory().total / 1e9,
        kernel=f"{platform.system()} {platform.release()}",
        python=platform.python_version(),
        valkey=valkey,
        load_before=os.getloadavg()[0],
    )


def commit() -> str:
    """The commit that is checked out, and whether files differ from it."""
    try:
        name = _git("rev-parse", "--short=12", "HEAD")
        return f"{name} and changes" if _git("status", "--porcelain", "-uno") else name
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def _git(*arguments: str) -> str:
    command = ["git", "-C", str(ROOT), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            name, _, value = line.partition(":")
            if name.strip() == "model name":
                return value.strip()
    return platform.processor() or platform.machine()
