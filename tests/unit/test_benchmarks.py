"""The benchmarks run, at sizes whose figures mean nothing."""

import json
import time
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest
import torch

from resnet_core.config import TrialConfig
from search_spaces.figures import published
from tests.benchmarks import gpu, kernels, sampler, training, trainings
from tests.benchmarks.rounds import interleaved, print_ratio

CPU = torch.device("cpu")
NOWHERE = Path("nowhere")


pytestmark = pytest.mark.usefixtures("one_thread")


def tiny_setting() -> training.Setting:
    config = TrialConfig(
        schedule="[1e-3, 0]",
        epochs=training.EPOCHS,
        model="resnet11v2",
        data="digits",
        image_size=16,
        train_limit=64,
        val_limit=16,
        batch_size=32,
        shift=0.07,
    )
    return training.Setting(
        config=config, short=replace(config, epochs=1), seeds=1, data_dir=NOWHERE, threads=1, rounds=1, at_least=0.0
    )


@pytest.mark.parametrize(
    ("part", "says"),
    [
        pytest.param("plain", "end to end, bf16", marks=pytest.mark.slow),
        ("augmentation", "shift against RandomAffine"),
        ("data", "share of an epoch, fp32"),
        pytest.param("placement", "several against one", marks=pytest.mark.slow),
        ("biases", "seed 0: val_acc"),
        ("optimizers", "torch AdamW, fused"),
    ],
)
def test_a_part_of_the_cpu_benchmark_prints_its_figure(part, says, capsys):
    training.PARTS[part](tiny_setting())
    assert says in capsys.readouterr().out


@pytest.mark.parametrize(
    ("part", "finds"),
    [
        pytest.param("speed", "graph bf16: times as fast as the plain loop", marks=pytest.mark.slow),
        ("threads", "2 at once, s a trial and epoch"),
        pytest.param("first_epoch", "second trial of a process: first record after, s", marks=pytest.mark.slow),
        pytest.param("kernels", "graph bf16: kernels a step", marks=pytest.mark.slow),
        # processes is threads with the trials of the CPU's placement: a process costs a test seconds.
    ],
)
def test_a_part_of_the_gpu_benchmark_yields_its_findings(part, finds):
    assert finds in dict(gpu.PARTS[part](CPU, gpu.tiny(NOWHERE)))


@pytest.mark.slow
def test_on_a_cpu_with_one_thread_a_trial_alone_and_among_others_has_the_same_bits():
    assert dict(gpu.agreement(CPU, gpu.tiny(NOWHERE)))["a trial alone and among 2: same bits"] is True


def test_every_finding_is_in_the_file_when_the_time_is_over(tmp_path):
    report = gpu.Report(tmp_path / "gpu.json")
    report.add("versions", "torch", torch.__version__)
    assert not gpu.measure(["threads"], CPU, gpu.tiny(NOWHERE), report, deadline=time.monotonic())
    assert json.loads((tmp_path / "gpu.json").read_text()) == report.findings
    assert report.findings["threads"] == {"cut short": "no time left"}


def test_a_part_that_fails_does_not_lose_the_next(tmp_path, monkeypatch):
    def broken(device, sizes):
        raise RuntimeError("out of memory")
        yield

    def whole(device, sizes):
        yield "answer", 42

    monkeypatch.setattr(gpu, "PARTS", {"broken": broken, "whole": whole})
    report = gpu.Report(None)
    assert not gpu.measure(["broken", "whole"], CPU, gpu.tiny(NOWHERE), report, deadline=time.monotonic() + 60)
    assert report.findings == {"broken": {"failed": "RuntimeError: out of memory"}, "whole": {"answer": 42}}


def test_a_way_of_training_can_be_left_out():
    sizes = replace(gpu.tiny(NOWHERE), without=(gpu.GRAPH, gpu.PLAIN, gpu.COMPILED, "eager bf16"))
    found = {name for name, _ in gpu.speed(CPU, sizes)}
    assert found == {f"eager fp32{rest}" for rest in (": ready after, s", ", s an epoch")} | {
        "round 1, eager fp32, s an epoch"
    }


def test_trainings_at_once_are_written_an_epoch_a_line(tmp_path):
    config = replace(gpu.tiny(NOWHERE).config, epochs=3, precision="fp32")
    trained = trainings.Trainings(config, NOWHERE, CPU, tmp_path / "out.jsonl")
    assert trained.run([5, 6, 7], at_once=2)
    lines = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert {(line["seed"], line["epoch"]) for line in lines} == {(s, e) for s in (5, 6, 7) for e in (1, 2, 3)}
    assert all(line["val_acc"] == trained.accuracies[line["seed"]][line["epoch"] - 1] for line in lines)
    assert trained.seconds_at_once([5, 6]) > 0


@pytest.mark.parametrize("at_once", [1, 3])
def test_a_training_that_fails_costs_the_others_nothing(at_once, tmp_path, capsys, monkeypatch):
    real = trainings.records

    def records(config, *arguments):
        if config.seed == 6:
            raise RuntimeError("out of memory")
        return real(config, *arguments)

    monkeypatch.setattr(trainings, "records", records)
    config = replace(gpu.tiny(NOWHERE).config, epochs=2)
    trained = trainings.Trainings(config, NOWHERE, CPU, tmp_path / "out.jsonl")
    assert not trained.run([5, 6, 7], at_once)
    assert "out of memory" in capsys.readouterr().err
    assert {seed: len(accuracies) for seed, accuracies in trained.accuracies.items()} == {5: 2, 7: 2}


@pytest.mark.parametrize("program", [gpu, trainings])
@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--at-once", "0"], "0 is not above 0"),
        (["--out", "nowhere/out.json"], "there is no folder nowhere"),
        (["--device", "toaster"], "Expected one of cpu, cuda"),
    ],
)
def test_an_argument_that_cannot_be_is_refused(program, arguments, says, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["program", "--device", "cpu", *arguments])
    with pytest.raises(SystemExit) as ended:
        program.main()
    assert ended.value.code == 2
    assert says in capsys.readouterr().err


def test_the_trainings_are_those_of_the_published_run():
    (study,) = (source for source in published() if source.study == "post5")
    assert replace(trainings.RUN_33, precision="fp32") == replace(study.configs["run33"], seed=0)


def test_contenders_take_turns_after_a_warm_up():
    calls = []
    interleaved(2, {name: lambda name=name: calls.append(name) for name in "ab"})
    assert calls == list("ababab")


def test_a_ratio_is_taken_within_each_round(capsys):
    print_ratio("a over b", [2.0, 8.0, 9.0], [1.0, 2.0, 3.0], goal=3.0)
    assert "3.00 (2.00 to 4.00) x, goal at least 3.0 x: met; by round 2.00 4.00 3.00" in capsys.readouterr().out


def test_ways_of_telling_the_sampler_are_compared(capsys):
    sampler.compare(seeds=2, trials=4, sampler="random", target=0.92)
    out = capsys.readouterr().out
    assert [line.split("  ")[1].strip() for line in out.splitlines()[1:]] == list(sampler.WAYS)
    # What is told changes nothing for a sampler that does not learn.
    assert out.count("0:2:0, 0:2:0, 0:2:0") == len(sampler.WAYS) - 1


# Kernels of a step, counted on the CPU


@lru_cache
def kernels_of(**fields: Any) -> dict[str, kernels.Tally]:
    return kernels.count(replace(kernels.PUBLISHED, **fields), batch=2)


@pytest.mark.parametrize(
    ("fields", "most"),
    [({}, 476), ({"skip_conv_bias": True}, 420), ({"fused": False}, 916), ({"precision": "fp32"}, 472)],
    ids=["published", "without biases", "torch", "fp32"],
)
def test_a_training_step_asks_a_gpu_for_no_more_kernels_than_it_did(fields, most):
    assert kernels_of(**fields)["step"].kernels.total() <= most


@pytest.mark.parametrize(("fields", "most"), [({}, 1), ({"fused": False}, 12)], ids=["fused", "torch"])
def test_an_optimizers_step_asks_a_gpu_for_no_more_kernels_than_it_did(fields, most):
    assert kernels_of(**fields)["optimizer"].kernels.total() <= most


def test_kernels_are_told_by_kind():
    kinds = kernels_of()["step"].kernels
    # Each of 58 convolutions thrice but for the first, whose images need no gradient, and the dense layer's three.
    assert kinds["convolutions"] == 3 * 58 - 1 + 3
    assert kinds["BN, ReLU and sums"] == 4 * 55
