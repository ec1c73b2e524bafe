"""What benchmarks are told on the command line, refused where it cannot be."""

from __future__ import annotations

import argparse
from pathlib import Path

import torch


def positive(text: str) -> int:
    """Read a whole number from 1 on."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text} is not above 0")
    return number


def new_file(text: str) -> Path:
    """Read the name of a file in a folder that is there."""
    path = Path(text)
    if not path.parent.is_dir():
        raise argparse.ArgumentTypeError(f"there is no folder {path.parent}")
    return path


def device(text: str) -> torch.device:
    """Read the name of a device that is there."""
    try:
        found = torch.device(text)
    except RuntimeError as error:
        raise argparse.ArgumentTypeError(str(error).splitlines()[0]) from None
    if found.type == "cuda" and not torch.cuda.is_available():
        raise argparse.ArgumentTypeError(
            "torch sees no CUDA GPU here; --device cpu --tiny shows that the program works"
        )
    return found
