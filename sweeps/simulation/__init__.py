"""Studies in virtual time, on known curves: they show what stopping rules save and cost, and what is picked."""
