"""Curves that were recorded elsewhere: read from files, checked, and written as a study."""
