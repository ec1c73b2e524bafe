"""Run as a program in place of an agent of Ray's that a launch does not need.

Ray's own imports for two seconds, and meanwhile the raylet waits for the ports that an agent writes, each to a file. -1
is Ray's word for a service that is not there. The arguments are the names of the ports, separated by commas, and the
command of Ray's own agent, which says where the files are.
"""

import os
import signal
import sys


def write_ports(names: list[str], command: list[str]) -> None:
    """Write for each port that its service is not there."""
    folder, node = (
        next(word.removeprefix(option) for word in command if word.startswith(option))
        for option in ("--session-dir=", "--node-id=")
    )
    for name in names:
        path = f"{folder}/{name}_{node}"
        with open(f"{path}.partial", "w") as file:  # noqa: PTH123  # importing pathlib takes longer than all else here
            file.write("-1")
        os.replace(f"{path}.partial", path)  # noqa: PTH105


if __name__ == "__main__":
    write_ports(sys.argv[1].split(","), sys.argv[2:])
    while True:
        signal.pause()
