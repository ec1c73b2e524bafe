"""Recorded curves to simulate studies on, each beside the study file that it was recorded from."""
