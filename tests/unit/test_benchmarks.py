"""The benchmarks run, at sizes whose figures mean nothing."""

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import analysis
from resnet_core.config import TrialConfig
from search_spaces.figures import published_studies
from search_spaces.study import find_study, load_study
from tests.benchmarks import (
    gpu,
    gpu_parts,
    kernels,
    packed_images,
    prediction,
    sampler,
    sequential,
    training,
    trainings,
    winners,
)
from tests.benchmarks.peers import __main__ as peers
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
def test_a_part_of_the_gpu_benchmark_yields_its_findings(part, finds, tmp_path):
    assert finds in dict(gpu_parts.PARTS[part](CPU, gpu_parts.tiny(NOWHERE, tmp_path)))


@pytest.mark.slow
def test_on_a_cpu_with_one_thread_a_trial_alone_and_among_others_has_the_same_bits(tmp_path):
    found = dict(gpu_parts.agreement(CPU, gpu_parts.tiny(NOWHERE, tmp_path)))
    assert found["a trial alone and among 2: same bits"] is True


def test_what_a_part_found_until_it_failed_is_in_the_file(tmp_path, monkeypatch):
    def broken(device, sizes):
        yield "answer", 42
        raise RuntimeError("out of memory")

    monkeypatch.setitem(gpu_parts.PARTS, "broken", broken)
    findings = gpu_parts.Findings(tmp_path / "findings.jsonl")
    assert not gpu_parts.measure("broken", CPU, gpu_parts.tiny(NOWHERE, tmp_path), findings)
    assert findings.read() == {"broken": {"answer": 42, "failed": "RuntimeError: out of memory"}}


def test_a_line_that_a_killed_process_left_half_written_is_passed_over(tmp_path):
    findings = gpu_parts.Findings(tmp_path / "findings.jsonl")
    findings.add("speed", "round 1", 2.5)
    with (tmp_path / "findings.jsonl").open("a") as file:
        file.write('{"part": "speed", "na')
    assert findings.read() == {"speed": {"round 1": 2.5}}


def test_a_way_of_training_can_be_left_out(tmp_path):
    without = tuple(way for way in gpu_parts.WAYS if way != gpu_parts.EAGER)
    found = {name for name, _ in gpu_parts.speed(CPU, replace(gpu_parts.tiny(NOWHERE, tmp_path), without=without))}
    assert found == {f"eager fp32{rest}" for rest in (": ready after, s", ", s an epoch")} | {
        "round 1, eager fp32, s an epoch"
    }


# The GPU benchmark's processes


@pytest.fixture
def benchmark(tmp_path, monkeypatch, capfd):
    """Runs the program at a tiny size, whose parts are programs of one line."""
    ran = []

    def run(**lines: str) -> tuple[int, dict[str, dict[str, Any]]]:
        monkeypatch.setattr(gpu, "PARTS", dict.fromkeys(lines))
        monkeypatch.setattr(gpu, "LIMITS", dict.fromkeys(lines, 30.0))
        real = gpu._ended

        def ended(command, environment, limit):
            part = command[3]
            ran.append((part, limit))
            # A program that does nothing takes more than a second, too, on a machine that is busy.
            return real([sys.executable, "-c", lines[part]], environment, 1.0 if "sleep" in lines[part] else limit)

        with monkeypatch.context() as patched:
            patched.setattr(gpu, "_ended", ended)
            arguments = ["run", "--out", str(tmp_path / "out"), "--device", "cpu", "--tiny"]
            patched.setattr("sys.argv", ["gpu", *arguments])
            with pytest.raises(SystemExit) as done:
                gpu.main()
        return done.value.code, gpu_parts.Findings(tmp_path / "out/findings.jsonl").read()

    run.ran = ran
    return run


def test_a_part_that_fails_or_hangs_costs_the_others_nothing(benchmark):
    code, found = benchmark(dies="import os; os.abort()", hangs="import time; time.sleep(60)", whole="")
    assert code == 1
    assert {part: of["ended"] for part, of in found.items()} == {
        **{"dies": "failed with exit code -6", "hangs": "cut short after 1 s", "whole": "whole"}
    }


def test_what_came_to_its_end_is_not_run_again(benchmark):
    benchmark(first="", second="raise SystemExit(1)")
    code, found = benchmark(first="raise SystemExit(1)", second="")
    assert code == 0
    assert [part for part, _ in benchmark.ran] == ["first", "second", "second"]
    assert found["second"]["ended"] == "whole"


def test_a_benchmark_gets_the_options_that_were_typed(monkeypatch, tmp_path):
    commands = []
    monkeypatch.setattr(gpu, "_ended", lambda command, *_: commands.append(command) or "whole")
    typed = [
        "--out",
        str(tmp_path),
        "--data",
        "here",
        "--device",
        "cpu",
        "--tiny",
        "--at-once",
        "1",
        "2",
        "--steps",
        "3",
    ]
    monkeypatch.setattr("sys.argv", ["gpu", "run", "--parts", "threads", *typed])
    with pytest.raises(SystemExit):
        gpu.main()
    assert commands[0][1:4] == ["-m", "tests.benchmarks.gpu_parts", "threads"]
    assert set(commands[0][4:]) == set(typed)


@pytest.mark.slow
def test_the_benchmark_runs_its_parts_as_processes(tmp_path):
    command = [sys.executable, "-m", "tests.benchmarks.gpu", "run", "--out", str(tmp_path), "--device", "cpu", "--tiny"]
    subprocess.run([*command, "--parts", "trainings"], check=True)
    assert gpu_parts.Findings(tmp_path / "findings.jsonl").read()["trainings"]["ended"] == "whole"
    assert len((tmp_path / "trainings.jsonl").read_text().splitlines()) == 4


# What came back


FOUND = {
    "versions": {"gpu": "NVIDIA H200", "torch": "2.11"},
    "speed": {
        "graph bf16, s an epoch": "4.714 (4.713 to 4.715)",
        "graph bf16: 1.0 s an epoch at most": "missed",
        "graph bf16: times as fast as the plain loop": "5.9 (5.4 to 6.4)",
        "ended": "whole",
    },
    "kernels": {
        "graph bf16: kernels a step": 1460.0,
        "graph bf16: microseconds a step and number, by name": [
            ["void at::native::batch_norm_collect_statistics", 533.1, 55.0],
            ["batch_norm_backward_reduce", 413.1, 55.0],
            ["moments", 100.0, 55.0],
            ["Memset (Device)", 63.6, 69.0],
            ["who knows", 1.0, 1.0],
        ],
    },
    "agreement": {"a trial alone and repeated: same bits": True},
    "fused": {"off by at most, as the trainer takes it": 0.01, "step of adamw: off by": 2e-7},
}


@pytest.fixture
def back(tmp_path) -> Path:
    """A folder that came back from a GPU, with the recorded run 33."""
    folder = tmp_path / "back"
    folder.mkdir()
    findings = gpu_parts.Findings(folder / "findings.jsonl")
    for part, values in FOUND.items():
        for name, value in values.items():
            findings.add(part, name, value)
    shutil.copyfile(gpu.DOCS / "data/run33_h200.jsonl", folder / "trainings.jsonl")
    return folder


def report(monkeypatch, *arguments: object) -> int:
    monkeypatch.setattr("sys.argv", ["gpu", "report", *map(str, arguments)])
    with pytest.raises(SystemExit) as done:
        gpu.main()
    return done.value.code


def test_figures_stand_beside_their_goals(back):
    lines = gpu.table(gpu.merged([back]))
    assert "| speed | s an epoch, CUDA graph, bf16 | ≤ 1.0 | 4.714 (4.713 to 4.715): missed |" in lines
    assert "| speed | plain loop over ours | ≥ 10 | 5.9 (5.4 to 6.4) |" in lines
    assert "| speed | the same with `compile` | ≤ 1.0 | not measured |" in lines
    assert "| kernels | kernels a step | none | 1,460 |" in lines
    assert "| agreement | a trial alone and repeated: same bits | yes | yes |" in lines
    assert "| fused | step of adamw: relative error | ≤ 0.01 | 2e-07 |" in lines


def test_kernels_are_summed_by_kind(back):
    assert gpu.kinds(gpu.merged([back]))[2:] == [
        "| BN, torch's | 110 | 946 |",
        "| batch norm, ReLU, sums, biases | 55 | 100 |",
        "| fills | 69 | 64 |",
        "| the others | 1 | 1 |",
    ]


def test_of_two_folders_the_later_whole_part_counts(back, tmp_path):
    later = tmp_path / "later"
    later.mkdir()
    findings = gpu_parts.Findings(later / "findings.jsonl")
    findings.add("speed", "graph bf16, s an epoch", "1.0")
    findings.add("speed", "ended", "cut short after 5 s")
    findings.add("agreement", "a trial alone and repeated: same bits", False)
    findings.add("agreement", "ended", "whole")
    found = gpu.merged([back, later])
    assert found["speed"]["graph bf16, s an epoch"] == "4.714 (4.713 to 4.715)"
    assert found["agreement"]["a trial alone and repeated: same bits"] is False


def test_the_documents_take_the_tables(back, tmp_path, monkeypatch):
    docs = tmp_path / "docs"
    docs.mkdir()
    for name in ("performance.md", "results.md"):
        shutil.copyfile(gpu.DOCS / name, docs / name)
    assert report(monkeypatch, back, "--docs", docs) == 0
    text = (docs / "performance.md").read_text(encoding="utf-8")
    assert "| speed | plain loop over ours | ≥ 10 | 5.9 (5.4 to 6.4) |" in text
    assert "| 33 | 20 | 20 | 0.9250 | 25 | 0.9245 |" in (docs / "results.md").read_text(encoding="utf-8")
    assert gpu.recorded(docs / "data/run33_h200.jsonl") == gpu.recorded(back / "trainings.jsonl")
    assert report(monkeypatch, back, "--docs", docs) == 0  # again, in the same place
    assert (docs / "performance.md").read_text(encoding="utf-8") == text


@pytest.mark.slow
def test_recorded_trainings_become_a_study(back, tmp_path, monkeypatch):
    assert report(monkeypatch, back, "--home", tmp_path / "home") == 0
    study = analysis.load(tmp_path / "home/mlflow.db", "run33-h200")
    epochs = analysis.build_table(study)["epochs_to_target"]
    assert sorted(epochs.dropna()) == [20, 22, 22, 23, 25]


def test_a_folder_without_findings_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("sys.argv", ["gpu", "report", str(tmp_path)])
    with pytest.raises(SystemExit, match=r"no findings\.jsonl in"):
        gpu.main()


# Images that are taken along


@pytest.fixture
def pictures(monkeypatch, tmp_path) -> tuple[Any, Any]:
    """100 training and 20 test images, some smooth and some noise."""
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (120, 3, 32, 32), dtype=np.uint8)
    images[:40] = np.arange(32, dtype=np.uint8)
    labels = random.integers(0, 10, 120)
    whole = (images[:100], labels[:100]), (images[100:], labels[100:])
    monkeypatch.setattr(packed_images.cifar10, "read_files", lambda _: whole)
    packed_images.pack(NOWHERE, tmp_path / "packed")
    packed_images.read.cache_clear()
    return whole


def same(one: tuple[Any, Any], other: tuple[Any, Any]) -> bool:
    return all(
        np.array_equal(a, b) and a.dtype == b.dtype
        for x, y in zip(one, other, strict=True)
        for a, b in zip(x, y, strict=True)
    )


def test_packed_images_come_back_whole(pictures, tmp_path):
    for half in ("2", "1"):
        packed_images.unpack(tmp_path / "packed" / half, tmp_path / "images")
    assert same(packed_images.read(tmp_path / "images"), pictures)


def test_what_is_missing_is_completed_by_mirror_images(pictures, tmp_path, monkeypatch):
    packed_images.unpack(tmp_path / "packed/1", tmp_path / "images")
    (images, labels), test = packed_images.read(tmp_path / "images")
    (real, classes), real_test = pictures
    assert np.array_equal(images[:40], real[:40])
    assert np.array_equal(images[40:80], real[:40, :, :, ::-1])
    assert np.array_equal(images[80:], real[:20])
    assert np.array_equal(labels, np.resize(classes[:40], 100))
    assert same((test,), (real_test,))


def test_some_of_the_images_make_no_result(pictures, tmp_path, monkeypatch):
    packed_images.unpack(tmp_path / "packed/1", tmp_path / "images")
    monkeypatch.setenv(packed_images.FOLDER, str(tmp_path / "images"))
    with pytest.raises(RuntimeError, match="not all images are there"):
        next(gpu_parts.trainings(CPU, gpu_parts.real(NOWHERE, tmp_path)))


def test_kernels_that_no_cpu_runs_are_said_not_to_be_used(tmp_path):
    assert dict(gpu_parts.fused(CPU, gpu_parts.tiny(NOWHERE, tmp_path))) == {"not used": "cpu is no GPU"}


# Trainings


def test_trainings_at_once_are_written_an_epoch_a_line(tmp_path):
    config = replace(gpu_parts.tiny(NOWHERE, NOWHERE).config, epochs=3, precision="fp32")
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
    config = replace(gpu_parts.tiny(NOWHERE, NOWHERE).config, epochs=2)
    trained = trainings.Trainings(config, NOWHERE, CPU, tmp_path / "out.jsonl")
    assert not trained.run([5, 6, 7], at_once)
    assert "out of memory" in capsys.readouterr().err
    assert {seed: len(accuracies) for seed, accuracies in trained.accuracies.items()} == {5: 2, 7: 2}


@pytest.mark.parametrize(
    ("program", "arguments", "says"),
    [
        (gpu, ["run", "--out", "x", "--at-once", "0"], "0 is not above 0"),
        (gpu, ["run", "--out", "x", "--device", "toaster"], "Expected one of cpu, cuda"),
        (trainings, ["--at-once", "0"], "0 is not above 0"),
        (trainings, ["--out", "nowhere/out.json"], "there is no folder nowhere"),
        (trainings, ["--device", "toaster"], "Expected one of cpu, cuda"),
    ],
)
def test_an_argument_that_cannot_be_is_refused(program, arguments, says, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["program", *arguments])
    with pytest.raises(SystemExit) as ended:
        program.main()
    assert ended.value.code == 2
    assert says in capsys.readouterr().err


def test_the_trainings_are_those_of_the_published_run():
    (study,) = (source for source in published_studies() if source.study == "post5")
    assert replace(trainings.RUN_33, precision="fp32") == replace(study.configs["run33"], seed=0)


def test_contenders_take_turns_after_a_warm_up():
    calls = []
    interleaved(2, {name: lambda name=name: calls.append(name) for name in "ab"})
    assert calls == list("ababab")


def test_a_ratio_is_taken_within_each_round(capsys):
    print_ratio("a over b", [2.0, 8.0, 9.0], [1.0, 2.0, 3.0], goal=3.0)
    assert "3.00 (2.00 to 4.00) x, goal at least 3.0 x: met; by round 2.00 4.00 3.00" in capsys.readouterr().out


def test_the_speed_of_predicting_is_printed(capsys):
    prediction.main(["--models", "resnet11v2", "--images", "4", "--threads", "1"])
    assert "resnet11v2: 4 images in " in capsys.readouterr().out


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


def test_kernels_are_counted_by_kind():
    kinds = kernels_of()["step"].kernels
    # Each of 58 convolutions thrice but for the first, whose images need no gradient, and the dense layer's three.
    assert kinds["convolutions"] == 3 * 58 - 1 + 3
    assert kinds["BN, ReLU and sums"] == 4 * 55


# The sequential test


def test_a_gap_is_decided_in_few_pairs_and_rightly():
    found = sequential.measure(4.0, 1.5, 0.5, repeats=100, most=30)
    assert (found.decided, found.false, found.median < 12) == (1, 0, True)


def test_a_decision_without_a_gap_is_false():
    found = sequential.measure(0.0, 1.5, 0.5, repeats=300, most=30)
    assert 0 < found.false == found.decided < 0.06


def test_the_figures_of_the_sequential_test_are_printed(capsys):
    sequential.main(["--repeats", "20", "--most", "10"])
    assert "prior beta(0.5, 0.5), up to 10 pairs, 20 tests a line" in capsys.readouterr().out


def test_what_a_study_picks_is_trained_again(tmp_path):
    small = ["search.trials=2", "train.train_limit=16", "train.val_limit=10", "train.epochs=1", "objective.target=0.01"]
    spec = load_study(find_study("quickstart"), small)
    pick = winners.searched(spec, tmp_path)
    assert pick is not None
    assert pick.result is not None
    assert winners.restricted(pick.job.config, tmp_path, 0.01, 20) == pick.result.epochs_to_target == 1
    assert winners.restricted(pick.job.config, tmp_path, 1.0, 20) == 20


def test_the_processes_of_a_contender_are_found_by_their_environment(tmp_path):
    found = peers._Processes(f"{peers.MARK}={tmp_path}")
    started = "import subprocess, sys, time; subprocess.Popen(sys.argv[1:]); time.sleep(600)"
    command = [sys.executable, "-c", started, sys.executable, "-c", "import time; time.sleep(600)"]
    parent = subprocess.Popen(command, env=os.environ | {peers.MARK: str(tmp_path)})
    while len(found.alive()) < 2:
        assert parent.poll() is None
    parent.kill()
    parent.wait()
    assert len(found.alive()) == 1
    found.kill()
    assert found.alive() == []
    assert sum(found.seconds.values()) > 0


def test_the_peers_table_has_every_figure(capsys):
    peers.print_table({"ours": [dict.fromkeys(peers.FIGURES, 1.0), dict.fromkeys(peers.FIGURES, 3.0)]})
    said = capsys.readouterr().out
    assert said.count("2.0 (1.0 to 3.0)") == len(peers.FIGURES)
