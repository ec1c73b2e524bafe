"""Figures of studies, trials, schedules and statistics: each function draws one, and saves it where asked to."""
