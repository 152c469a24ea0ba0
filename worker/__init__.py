"""Runs jobs: the IO lane on one event loop, the CPU lane in a pool of processes."""
