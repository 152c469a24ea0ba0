"""The jobs that ship with twolane: three that wait and two that compute."""

from twolane.jobs.database import query
from twolane.jobs.files import read_file
from twolane.jobs.primes import count_primes, find_primes
from twolane.jobs.web import fetch

__all__ = ["count_primes", "fetch", "find_primes", "query", "read_file"]
