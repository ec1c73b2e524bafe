"""Rules that end trials early: one file a rule, and whatever rule has a file here can be switched on by a study.

To add one, write its file (a subclass of `StoppingRule` with its settings as fields) and its tests.
"""
