"""Recorded curves that studies can be simulated on, beside the studies that they are of."""
