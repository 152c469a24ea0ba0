"""Runs arq's own tests with arq's worker and with ours, and compares."""
