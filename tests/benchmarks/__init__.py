"""Benchmarks: run by hand, as modules from the repository's root; tests only see that they run."""
