"""Benchmarks: each folder is one, run as ``python -m benchmarks.NAME`` from the repository's root."""
