"""Benchmarks: programs that print a figure and what it was compared with. No tests."""
