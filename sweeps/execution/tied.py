"""Run as a program: executes a command as a process that is killed when the process that started it ends, on Linux."""

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1  # linux/prctl.h; holds beyond execv

if __name__ == "__main__":
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    os.execv(sys.executable, [sys.executable, *sys.argv[1:]])
