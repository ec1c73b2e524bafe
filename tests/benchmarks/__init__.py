"""Benchmarks: run by hand, as modules from the repository's root; no test collects them."""
