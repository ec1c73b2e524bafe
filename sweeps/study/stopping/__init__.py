"""Rules that end trials early, one file for each rule. A study can switch on every rule that has a file here.

To add one, write its file (a subclass of `StoppingRule` with its settings as fields) and its tests.
"""
