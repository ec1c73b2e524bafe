"""A kernel is used where it was found right, and nowhere else; a process looks once."""

import logging
import os
import subprocess
import sys
from itertools import count

import pytest
import torch

from resnet_core.fused import support

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def _nothing_known(monkeypatch):
    monkeypatch.setattr(support, "_found_correct", {})


def test_one_that_rounds_otherwise_is_right():
    assert support.is_correct("sum", CPU, lambda: 3e-3)


@pytest.mark.parametrize("off", [0.02, float("inf"), float("nan")])
def test_one_that_is_off_is_not_used_and_the_log_says_by_how_much(off, caplog):
    with caplog.at_level(logging.WARNING):
        assert not support.is_correct("sum", CPU, lambda: off)
    assert caplog.messages == [
        f"the fused sum is off by {off:.2g} of the true values on cpu; torch's operations are used instead"
    ]


def test_one_that_does_not_run_is_not_used_and_the_log_says_why(caplog):
    def broken() -> float:
        raise OSError("no C compiler\nmore of it")

    with caplog.at_level(logging.WARNING):
        assert not support.is_correct("sum", CPU, broken)
    assert "the fused sum does not run: no C compiler on cpu" in caplog.text


@pytest.mark.parametrize("off", [0.0, 1.0])
def test_a_process_looks_once_for_each_kind(off):
    looks = count()

    def relative_error() -> float:
        next(looks)
        return off

    answers = {support.is_correct(what, CPU, relative_error) for what in ("sum", "sum", "product")}
    assert answers == {off == 0.0}
    assert next(looks) == 2


def test_where_there_is_no_gpu_triton_is_not_loaded():
    code = """if True:
        import sys
        from pathlib import Path
        from resnet_core.config import TrialConfig
        from resnet_core.trainer import train

        config = TrialConfig(
            **{"schedule": "[0.1, 0]", "epochs": 1, "model": "resnet11v2", "data": "digits", "image_size": 16},
            **{"train_limit": 10, "val_limit": 10, "batch_size": 10},
        )
        list(train(config, data_dir=Path("nowhere")))
        sys.exit("triton" in sys.modules)
    """
    plain = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    subprocess.run([sys.executable, "-c", code], check=True, env=plain)
