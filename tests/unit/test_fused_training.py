"""Training with the kernels of resnet_core.fused is training with torch's operations, up to rounding.

Triton's interpreter stands for a GPU: it runs the same kernels, and the same code decides to use them.
"""

import dataclasses
import logging
from pathlib import Path
from typing import Any

import pytest
import torch

from resnet_core import training_run
from resnet_core.config import TrialConfig
from resnet_core.fused import batch_norm, support
from resnet_core.images import load
from resnet_core.models.layers.resnet_v2 import BatchNormReLU
from tests.triton_kernels import interpreted

NOWHERE = Path("nowhere")
CONFIG = TrialConfig(
    **{"schedule": "[0.01, 0] lin[0.002, 2]", "model": "resnet11v2", "data": "digits", "image_size": 16},
    **{"train_limit": 8, "val_limit": 10, "batch_size": 4, "weight_decay": 0.1, "l2": 1e-4, "optimizer": "sgd"},
)

needs_triton = pytest.mark.skipif(support.unavailable() is not None, reason="needs Triton")
slow = pytest.mark.slow  # half a minute for all that need the interpreter


# What the interpreter's process computes.


def trained(config: TrialConfig) -> dict[str, Any]:
    """The curve of an eager run, and the network's state at its end.

    By SGD: Adam makes steps as large as any of the rounding that biases have for a gradient.
    """
    run = training_run.TrainingRun(config, load(config, NOWHERE), torch.device("cpu"))
    records = [run.epoch(1).to_dict()]
    fused = [module.fused for module in run._working.network.modules() if isinstance(module, BatchNormReLU)]
    biases = [abs(p).max().item() for name, p in run._network.named_parameters() if "conv" in name and "bias" in name]
    statistics = [b.double().norm().item() for name, b in run._network.named_buffers() if "running" in name]
    return {"records": records, "fused": all(fused), "biases": max(biases), "statistics": statistics}


def everything() -> dict[str, Any]:
    torch.set_num_threads(1)
    found: dict[str, Any] = {
        "fused": trained(CONFIG),
        "torch": trained(dataclasses.replace(CONFIG, fused=False)),
    }
    batch_norm.relative_error = lambda *_, **__: 1.0
    support._found_correct.clear()
    warnings: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: warnings.append(record.getMessage())  # type: ignore[method-assign]
    logging.getLogger().addHandler(handler)
    found["wrong kernels"] = {**trained(CONFIG), "warnings": warnings}
    return found


# The tests.


@pytest.fixture(scope="module")
def found() -> dict[str, Any]:
    return interpreted("tests.unit.test_fused_training", "everything")


@slow
@needs_triton
@pytest.mark.parametrize("figure", ["loss", "val_loss"])
def test_the_curve_is_that_of_torchs_operations(found, figure):
    fused, plain = (found[how]["records"][0][figure] for how in ("fused", "torch"))
    assert fused == pytest.approx(plain, rel=1e-4)


@slow
@needs_triton
def test_the_running_statistics_are_those_of_torchs_operations(found):
    assert found["fused"]["statistics"] == pytest.approx(found["torch"]["statistics"], rel=1e-4)


@slow
@needs_triton
def test_the_switch_decides(found):
    assert [found[how]["fused"] for how in ("fused", "torch")] == [True, False]


@slow
@needs_triton
@pytest.mark.parametrize("how", ["fused", "torch"])
def test_biases_move_as_published_by_rounding_alone(found, how):
    assert 0 < found[how]["biases"] < 1e-6


def test_biases_left_out_stay_at_zero():
    assert trained(dataclasses.replace(CONFIG, skip_conv_bias=True))["biases"] == 0


def test_biases_left_out_train_alike():
    with_them, without = (
        trained(dataclasses.replace(CONFIG, skip_conv_bias=skip))["records"][0]["loss"] for skip in (False, True)
    )
    assert without == pytest.approx(with_them, rel=1e-4)


@slow
@needs_triton
def test_where_kernels_are_wrong_torch_trains_with_a_warning_for_each_kind_of_map(found):
    wrong = found["wrong kernels"]
    assert wrong["records"][0]["loss"] == pytest.approx(found["torch"]["records"][0]["loss"], rel=1e-4)
    kind = "the fused batch norm of 4 maps of 16×16×16 in float32 with biases is off by 1 of the true values on cpu"
    assert any(warning.startswith(kind) for warning in wrong["warnings"])
