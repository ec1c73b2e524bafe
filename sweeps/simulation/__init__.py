"""Studies in virtual time: what stopping rules would save and cost, on curves that are known."""
