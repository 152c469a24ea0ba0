"""The job of the kill storm: its results are large, and nobody keeps them."""

from __future__ import annotations

import time

from chaoslab import ledger
from twolane import job


@job(keep_result=0)
def echo_and_forget(key: str, data: bytes, seconds: float) -> bytes:
    ledger.write("start", key)
    time.sleep(seconds)
    ledger.write("effect", key)
    return data
