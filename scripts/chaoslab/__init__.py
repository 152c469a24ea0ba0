"""Injects faults into real workers on a real Valkey, and judges what became of each job.

It has no part in the project's package: nothing of it is installed.
"""
