"""Ports for servers that tests start."""

import random
import socket
from contextlib import closing
from pathlib import Path

_FROM, _RANGE = 20_000, Path("/proc/sys/net/ipv4/ip_local_port_range")  # from which on Ray's workers take none


def free_port() -> int:
    """Return a port of 127.0.0.1 that is free, and that nobody is given who asks the system for any port.

    A server takes it seconds later, and may be stopped and started again: connections of others must not take it then.
    """
    below = int(_RANGE.read_text().split()[0]) if _RANGE.exists() else 0
    tried = random.SystemRandom().sample(range(_FROM, below), 100) if below > _FROM + 1000 else []
    for port in [*tried, 0]:
        with closing(socket.socket()) as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    raise OSError("no port of 127.0.0.1 is free")
