"""Studies in virtual time, on curves that are known: what stopping rules save and cost, and what is picked."""
