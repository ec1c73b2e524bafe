"""One job written for several programs."""
