"""The schedules of the published recipes, as texts, against torch's schedulers and against their formulas.

Every scheduler is stepped at every iteration and compared at every iteration. Texts come from the table
"Common schedules as texts" of docs/notation.md, so that what a reader copies from there is what is checked here.
"""

import math
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch.optim import SGD, lr_scheduler

from resnet_core.schedule import parse

STEPS = 7
"""Optimizer steps an epoch: odd, and too few for an error of one step to hide in a tolerance."""

NOTATION = Path(__file__).parents[2] / "docs" / "notation.md"


def _table() -> dict[str, str]:
    section = NOTATION.read_text(encoding="utf-8").split("## Common schedules as texts")[1].split("\n## ")[0]
    return dict(re.findall(r"^\| ([^|]+?) \| `(\[[^`]+\])` \|", section, re.MULTILINE))


TABLE = _table()


def stepped(
    lr: float, make: Callable[[SGD], lr_scheduler.LRScheduler], steps: int, key: str = "lr", momentum: float = 0.9
) -> list[float]:
    """Return a value of SGD's at every step 0 … steps of a scheduler that is stepped at every one of them."""
    optimizer = SGD([torch.zeros(1, requires_grad=True)], lr=lr, momentum=momentum)
    scheduler = make(optimizer)
    values = []
    for step in range(steps + 1):
        values.append(float(optimizer.param_groups[0][key]))
        if step < steps:
            optimizer.step()
            scheduler.step()
    return values


def formula(value: Callable[[float], float], epochs: int) -> list[float]:
    """Return a function of the epoch at every step 0 … epochs·STEPS."""
    return [value(step / STEPS) for step in range(epochs * STEPS + 1)]


def one_cycle(peak: int, end: int, strategy: str, key: str, low: float = 0.85, **more: object) -> list[float]:
    """OneCycleLR whose highest learning rate is reached at epoch ``peak`` and whose last at epoch ``end``."""
    settings = {"total_steps": end * STEPS + 1, "pct_start": (peak * STEPS + 1) / (end * STEPS + 1)}
    settings |= {"anneal_strategy": strategy, "base_momentum": low, "max_momentum": 0.95} | more
    return stepped(1.0, lambda o: lr_scheduler.OneCycleLR(o, **settings), end * STEPS, key)


def super_convergence(key: str) -> list[float]:
    more = {"max_lr": 0.8, "div_factor": 10, "final_div_factor": 10, "three_phase": True, "low": 0.8}
    return one_cycle(41, 95, "linear", key, **more)


def cyclic(mode: str) -> list[float]:
    settings = {"base_lr": 1e-4, "max_lr": 1e-3, "step_size_up": 4 * STEPS, "cycle_momentum": False, "mode": mode}
    return stepped(1.0, lambda o: lr_scheduler.CyclicLR(o, **settings), 16 * STEPS)


def warm_up_then_cosine() -> list[float]:
    def make(optimizer: SGD) -> lr_scheduler.LRScheduler:
        parts = [
            lr_scheduler.LinearLR(optimizer, start_factor=0.1, total_iters=5 * STEPS),
            lr_scheduler.CosineAnnealingLR(optimizer, 45 * STEPS),
        ]
        return lr_scheduler.SequentialLR(optimizer, parts, [5 * STEPS])

    return stepped(0.1, make, 50 * STEPS)


def atienza(step: int) -> float:
    epoch = step // STEPS
    return next((f for last, f in ((180, 5e-4), (160, 1e-3), (120, 1e-2), (80, 0.1)) if epoch > last), 1.0)


def quarter_cosine(epoch: float) -> float:
    if epoch <= 14:
        return 1e-3
    if epoch <= 24:
        return 1e-5 + (1e-3 - 1e-5) * math.cos((epoch - 14) / 10 * math.pi / 2)
    return 1e-5 + (6e-6 - 1e-5) * (epoch - 24) / 10


# By the names of the table; each gives the values at all steps from the first to the text's last knot.
ORACLES: dict[str, Callable[[], list[float]]] = {
    "step decay": lambda: stepped(0.1, lambda o: lr_scheduler.MultiStepLR(o, [80 * STEPS, 120 * STEPS]), 160 * STEPS),
    "piecewise constant, Atienza": lambda: stepped(1e-3, lambda o: lr_scheduler.LambdaLR(o, atienza), 200 * STEPS),
    "cosine decay": lambda: stepped(
        0.1, lambda o: lr_scheduler.CosineAnnealingLR(o, 50 * STEPS, eta_min=1e-4), 50 * STEPS
    ),
    "quarter cosine, post V": lambda: formula(quarter_cosine, 34),
    "linear decay": lambda: stepped(
        0.1, lambda o: lr_scheduler.LinearLR(o, 1.0, 0.0, total_iters=30 * STEPS), 30 * STEPS
    ),
    "exponential decay": lambda: stepped(
        0.1, lambda o: lr_scheduler.ExponentialLR(o, 1e-2 ** (1 / (50 * STEPS))), 50 * STEPS
    ),
    "constant warm-up": lambda: stepped(
        0.1, lambda o: lr_scheduler.ConstantLR(o, factor=0.1, total_iters=5 * STEPS), 30 * STEPS
    ),
    "gradual warm-up, then cosine": warm_up_then_cosine,
    "one cycle, half cosines": lambda: one_cycle(9, 30, "cos", "lr", max_lr=0.1),
    "its momentum": lambda: one_cycle(9, 30, "cos", "momentum", max_lr=0.1),
    "one cycle, super-convergence": lambda: super_convergence("lr"),
    "momentum of super-convergence": lambda: super_convergence("momentum"),
    "one cycle without annihilation": lambda: formula(lambda e: 0.4 * (e / 5 if e < 5 else (24 - e) / 19), 24),
    "triangular cycles": lambda: cyclic("triangular"),
    "triangular cycles, halved": lambda: cyclic("triangular2"),
    "warm restarts": lambda: stepped(
        0.05, lambda o: lr_scheduler.CosineAnnealingWarmRestarts(o, 10 * STEPS, 2), 30 * STEPS - 1
    ),
    "range test, exponential": lambda: formula(lambda e: 1e-6 * (10 / 1e-6) ** (e / 2), 2),
    "range test, linear": lambda: stepped(
        10.0, lambda o: lr_scheduler.LinearLR(o, 1e-7, total_iters=2 * STEPS), 2 * STEPS
    ),
}


def text_values(text: str, steps: int) -> list[float]:
    schedule = parse(text)
    return [value for epoch in range(steps // STEPS + 1) for value in schedule.epoch_values(epoch, STEPS)][: steps + 1]


def assert_same(text: str, expected: list[float]) -> None:
    # Room for the rounding errors that torch's recursive forms gather; a difference of one step is far above it.
    near = pytest.approx(expected, rel=1e-7, abs=1e-9 * max(expected))
    assert text_values(text, len(expected) - 1) == near


def test_the_table_and_the_comparisons_have_the_same_schedules() -> None:
    assert list(TABLE) == list(ORACLES)


@pytest.mark.parametrize("name", ORACLES)
def test_the_text_in_the_table_is_the_schedule_it_names(name: str) -> None:
    assert_same(TABLE[name], ORACLES[name]())


@pytest.mark.parametrize("name", ORACLES)
def test_a_schedule_that_is_one_step_late_differs(name: str) -> None:
    expected = ORACLES[name]()
    with pytest.raises(AssertionError):
        assert_same(TABLE[name], [expected[0], *expected[:-1]])


def test_the_texts_in_the_table_are_canonical() -> None:
    assert [str(parse(text)) for text in TABLE.values()] == list(TABLE.values())


@pytest.mark.parametrize("name", ORACLES)
def test_the_comparison_reaches_the_last_knot(name: str) -> None:
    # CosineAnnealingWarmRestarts starts again at the step of the last knot, where the text stays at its end.
    end = int(parse(TABLE[name]).last_epoch) * STEPS
    assert len(ORACLES[name]()) == (end if name == "warm restarts" else end + 1)


# Where torch counts otherwise


@pytest.mark.parametrize(("strategy", "kind"), [("linear", "lin"), ("cos", "hcos")])
@pytest.mark.parametrize("pct_start", [0.3, 0.37])
def test_one_cycle_of_torchs_arguments_has_its_knots_a_step_early(strategy: str, kind: str, pct_start: float) -> None:
    total = 30 * STEPS
    peak, end = (pct_start * total - 1) / STEPS, (total - 1) / STEPS
    settings = {"max_lr": 0.1, "total_steps": total, "pct_start": pct_start, "anneal_strategy": strategy}
    expected = stepped(1.0, lambda o: lr_scheduler.OneCycleLR(o, **settings), total - 1)
    assert_same(f"[4e-3, 0] {kind}[0.1, {peak!r}] {kind}[4e-7, {end!r}]", expected)


@pytest.mark.parametrize(("strategy", "kind"), [("linear", "lin"), ("cos", "hcos")])
def test_one_cycle_of_three_phases_has_its_second_knot_two_steps_early(strategy: str, kind: str) -> None:
    total = 30 * STEPS
    peak, low, end = (0.4 * total - 1) / STEPS, (0.8 * total - 2) / STEPS, (total - 1) / STEPS
    settings = {"max_lr": 0.1, "total_steps": total, "pct_start": 0.4, "anneal_strategy": strategy}
    expected = stepped(1.0, lambda o: lr_scheduler.OneCycleLR(o, three_phase=True, **settings), total - 1)
    assert_same(f"[4e-3, 0] {kind}[0.1, {peak!r}] {kind}[4e-3, {low!r}] {kind}[4e-7, {end!r}]", expected)


def test_linear_decay_is_also_torchs_polynomial_of_power_one() -> None:
    expected = stepped(0.1, lambda o: lr_scheduler.PolynomialLR(o, total_iters=30 * STEPS), 30 * STEPS)
    assert_same(TABLE["linear decay"], expected)


def test_a_piecewise_constant_stepped_once_an_epoch_is_the_same() -> None:
    by_epoch = stepped(0.1, lambda o: lr_scheduler.MultiStepLR(o, [80, 120]), 160)
    schedule = parse(TABLE["step decay"])
    assert [schedule.value(epoch) for epoch in range(161)] == pytest.approx(by_epoch, rel=1e-12)


# Formulas


def test_triangular_cycles_are_smiths_closed_form() -> None:
    # L. N. Smith 2017, arXiv 1506.01186.
    size, low, high = 4 * STEPS, 1e-4, 1e-3

    def triangular(step: int) -> float:
        cycle = math.floor(1 + step / (2 * size))
        x = abs(step / size - 2 * cycle + 1)
        return low + (high - low) * max(0.0, 1 - x)

    assert_same(TABLE["triangular cycles"], [triangular(step) for step in range(16 * STEPS + 1)])


def test_a_half_cosine_is_sgdrs_closed_form() -> None:
    # Loshchilov & Hutter 2017, arXiv 1608.03983, equation 5.
    assert_same(
        TABLE["cosine decay"], formula(lambda e: 1e-4 + (0.1 - 1e-4) * (1 + math.cos(math.pi * e / 50)) / 2, 50)
    )


def test_cyclic_momentum_goes_against_the_learning_rate() -> None:
    settings = {"base_lr": 1e-4, "max_lr": 1e-3, "step_size_up": 4 * STEPS, "base_momentum": 0.85, "max_momentum": 0.95}
    expected = stepped(1.0, lambda o: lr_scheduler.CyclicLR(o, **settings), 16 * STEPS, "momentum")
    assert_same("[0.95, 0] lin[0.85, 4] lin[0.95, 8] lin[0.85, 12] lin[0.95, 16]", expected)
