"""Figures of studies, trials, schedules and statistics: each function draws one, and saves it if given a path."""
