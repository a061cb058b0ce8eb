"""Measurements; each module is run by name: ``python -m benchmarks.floats``."""
