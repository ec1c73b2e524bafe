"""How good a kept network is on the images of its data set, and what it says of image files: for people and --json."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from analysis.statistics.calibration import (
    BINS,
    ReliabilityBin,
    adaptive_calibration_error,
    calibrated_error,
    expected_calibration_error,
    reliability,
)
from analysis.statistics.classification import (
    ClassResult,
    Integers,
    Predictions,
    accuracy,
    class_results,
    confusion_matrix,
    mean_loss,
    most_confused,
    most_wrong,
)
from analysis.statistics.intervals import Estimate
from resnet_core.config import TrialConfig
from resnet_core.data import DataError
from resnet_core.kept import KeptNetwork
from resnet_core.prediction import Part, labelled_images, logits_of, read_input

_MOST_IN_MATRIX = 12  # classes; a matrix of more is wider than 80 columns
_MOST_LISTED = 20  # classes
_LONGEST = 16  # characters of a class's name
_SAME_LOSS = 1e-3  # relative; sums are rounded differently on another device or with other libraries
_BATCH = 250


@dataclass(frozen=True, eq=False)
class Evaluation:
    """What a kept network says of labelled images of its data set, and how good that is.

    Attributes:
        network: the network.
        part: which images they are.
        images: uint8 [N, C, H, W].
        predictions: of the images.
        averaged: the means of the probabilities for each image and for its mirror image; None where the trial was not
            trained on mirrored images, since a mirrored digit is no digit.
    """

    network: KeptNetwork
    part: Part
    images: NDArray[np.uint8]
    predictions: Predictions
    averaged: Predictions | None

    @cached_property
    def confusion(self) -> Integers:
        """How many images of each class (row) were predicted as each class (column)."""
        made = self.predictions
        return confusion_matrix(made.labels, made.predicted, made.classes)

    @property
    def correct(self) -> int:
        """How many images were predicted right."""
        return int(self.predictions.correct.sum())

    @property
    def recorded(self) -> tuple[float, float] | None:
        """The accuracy and the loss that the trial recorded for the same images; None where it recorded none."""
        prefix = "val" if self.part == "validation" else "test"
        metrics = self.network.about.metrics
        found = metrics.get(f"{prefix}_acc"), metrics.get(f"{prefix}_loss")
        return None if None in found else found  # type: ignore[return-value]  # neither is None

    @property
    def is_as_recorded(self) -> bool:
        """Whether as many images were predicted right as the trial recorded, at nearly the same loss."""
        if self.recorded is None:
            return False
        share, loss = self.recorded
        near = abs(mean_loss(self.predictions).value - loss) <= _SAME_LOSS * max(loss, 1e-3)
        return round(share * len(self.images)) == self.correct and near

    def to_dict(self) -> dict[str, Any]:
        """Return the values that ``evaluate --json`` prints."""
        about, made = self.network.about, self.predictions
        recorded = None
        if self.recorded is not None:
            recorded = dict(zip(("accuracy", "loss"), self.recorded, strict=True)) | {"same": self.is_as_recorded}
        chance = calibrated_error(made)
        return {
            "study": about.study,
            "trial": about.trial,
            "epoch": about.epoch,
            "weights": about.weights,
            "model": self.network.config.model,
            "data": self.network.config.data,
            "split": self.network.config.split,
            "part": self.part,
            "images": len(self.images),
            "correct": self.correct,
            **_figures(made),
            "flips_averaged": None if self.averaged is None else _figures(self.averaged),
            "recorded": recorded,
            "calibration": {
                "expected_calibration_error": expected_calibration_error(made),
                "adaptive_calibration_error": adaptive_calibration_error(made),
                "calibrated_network": {"mean": chance.value, "high": chance.high, "confidence": chance.confidence},
                "bins": [dataclasses.asdict(each) for each in reliability(made)],
            },
            "classes": [
                {"class": name, **dataclasses.asdict(each)}
                for name, each in zip(self.network.classes, class_results(self.confusion), strict=True)
            ],
            "confusion": self.confusion.tolist(),
            "most_confused": [
                {"class": self.network.classes[true], "predicted": self.network.classes[taken], "images": images}
                for true, taken, images in most_confused(self.confusion)
            ],
            "most_wrong": [self._wrong(place) for place in most_wrong(made)],
        }

    def _wrong(self, place: int) -> dict[str, Any]:
        made, names = self.predictions, self.network.classes
        return {
            "image": place,
            "class": names[made.labels[place]],
            "probability_of_class": float(np.exp(-made.losses[place])),
            "predicted": names[made.predicted[place]],
            "probability": float(made.confidences[place]),
            "loss": float(made.losses[place]),
        }

    def describe(self) -> str:
        """Return the figures as text of at most 80 columns, for data sets whose names of classes are short."""
        parts = [self._heading(), *self._accuracy(), "", *self._calibration(), "", *self._classes()]
        return "\n".join([*parts, "", *self._confusions()])

    def _heading(self) -> str:
        about, config = self.network.about, self.network.config
        weights = {"average": "averaged weights", "last": "weights"}.get(about.weights, about.weights)
        of = f"trial {about.trial} of {about.study}: " if about.study else ""
        return (
            f"{_plain(of)}{_plain(config.model)} on {_plain(config.data)}, {weights} of epoch {about.epoch}\n"
            f"{len(self.images):,} {self.part} images, split {config.split}{_of_split(config, self.part)}\n"
        )

    def _accuracy(self) -> list[str]:
        rows = [("as they are", self.predictions)]
        if self.averaged is not None:
            rows.append(("flips averaged", self.averaged))
        lines = [f"{'':<16}{'accuracy':<27}loss [nats]"]
        lines += [f"{name:<16}{_shown(accuracy(made)):<27}{_shown(mean_loss(made))}" for name, made in rows]
        lines.append("intervals of 95 %: Wilson's for the accuracy, Student's for the loss")
        return [*lines, *self._beside_recorded()]

    def _beside_recorded(self) -> list[str]:
        if self.recorded is None:
            return []
        share, loss = self.recorded
        count, here = f"{self.correct:,} of {len(self.images):,} images", self.correct / len(self.images)
        if self.is_as_recorded:
            return [f"the same as recorded: {count}"]
        return [
            f"not as recorded: accuracy {share:.4f}, loss {loss:.4f}; here {count}, {here:.4f}",
            "other images, another device or another version of torch may be why",
        ]

    def _calibration(self) -> list[str]:
        made, chance = self.predictions, calibrated_error(self.predictions)
        found = expected_calibration_error(made)
        sure = sum(made.confidences) > self.correct
        verdict = (
            f"more than chance: it is too {'sure' if sure else 'unsure'}" if found > chance.high else "not above chance"
        )
        adaptive = adaptive_calibration_error(made)
        return [
            f"expected calibration error {found:.4f}, {verdict}",
            f"  over {BINS} bins of equal width (Guo et al. 2017), below; {adaptive:.4f} over equal counts",
            f"  by chance, a calibrated network shows {chance.value:.4f}, or up to {chance.high:.4f} in 95 of 100",
            f"  {'probability':<15}{'images':>8}{'mean':>9}{'right':>9}  95 % interval",
            *(_bin_row(each) for each in reliability(made)),
        ]

    def _classes(self) -> list[str]:
        found = list(enumerate(class_results(self.confusion)))
        lines = []
        if len(found) > _MOST_LISTED:
            found = sorted(found, key=lambda each: (not each[1].images, each[1].accuracy.value))[:10]
            lines = [f"the ten classes of {self.predictions.classes} with the lowest accuracy (--json has all)"]
        width = max(len(self._name(label)) for label, _ in found)
        lines.append(f"{'class':<{max(width, 5)}}{'images':>8}{'right':>9}  95 % interval")
        return [*lines, *(self._class_row(label, each, max(width, 5)) for label, each in found)]

    def _class_row(self, label: int, found: ClassResult, width: int) -> str:
        share = found.accuracy
        shown = f"{share.value:>9.4f}  {_interval(share)}" if found.images else f"{'-':>9}"
        return f"{self._name(label):<{width}}{found.images:>8,}{shown}"

    def _confusions(self) -> list[str]:
        count = self.predictions.classes
        if count <= _MOST_IN_MATRIX:
            width = max(len(self._name(label)) for label in range(count))
            cell = max(len(str(self.confusion.max())), 2) + 1
            lines = ["confusion matrix: true classes in rows, predicted ones in columns"]
            lines.append(" " * width + "".join(f"{label:>{cell}}" for label in range(count)))
            for label, row in enumerate(self.confusion.tolist()):
                lines.append(f"{self._name(label):<{width}}" + "".join(f"{n or '.':>{cell}}" for n in row))
            return lines
        pairs = most_confused(self.confusion)
        if not pairs:
            return ["no class was taken for another"]
        sizes = self.confusion.sum(axis=1)
        lines = ["the classes that were confused most"]
        for true, taken, images in pairs:
            pair = f"{self._name(true)} taken for {self._name(taken)}"
            lines.append(f"{pair:<48}{images:>6,} of {sizes[true]:,}")
        return lines

    def _name(self, label: int) -> str:
        """Return a class's number and name; the number alone where that is its name."""
        name = _plain(self.network.classes[label])
        shown = name if len(name) <= _LONGEST else name[: _LONGEST - 1] + "…"
        return name if name == str(label) else f"{label} {shown}"

    def draw(self, folder: Path) -> list[Path]:
        """Draw the images that the network is most wrong about, the confusion matrix and the reliability diagram.

        Args:
            folder: where the three files are written; it exists. Files of their names are replaced.

        Returns:
            The files; the first is left out where no image was predicted wrong.

        Raises:
            OSError: a file cannot be written.
        """
        from analysis.plots.predictions import plot_confusion, plot_images, plot_reliability

        about = self.network.about
        title = f"{about.study}, trial {about.trial}: " if about.study else ""
        images = f"{len(self.images):,} {self.part} images"
        files = []
        if wrong := most_wrong(self.predictions):
            files.append(folder / "most-wrong.png")
            texts = [self._wrong_text(self._wrong(place)) for place in wrong]
            named = f"{title}the {len(wrong)} of {images} that it is most wrong about"
            plot_images(self.images[list(wrong)], texts, named, files[-1])
        files.append(folder / "confusion.png")
        plot_confusion(self.confusion, self.network.classes, f"{title}{images}", files[-1])
        files.append(folder / "reliability.png")
        found = f"expected calibration error {expected_calibration_error(self.predictions):.4f}"
        plot_reliability(reliability(self.predictions), f"{title}{images}\n{found}", files[-1])
        return files

    def _wrong_text(self, wrong: dict[str, Any]) -> str:
        return (
            f"{wrong['class']}: {wrong['probability_of_class']:.2g}\n"
            f"predicted {wrong['predicted']}: {wrong['probability']:.2f}"
        )


def evaluate(network: KeptNetwork, part: Part, data_dir: Path) -> Evaluation:
    """Return what a kept network says of the images that its trial validated on, or of the test images.

    Args:
        network: what `resnet_core.load_model` returned.
        part: which images.
        data_dir: the folder for data, from which images are read and to which they are downloaded.

    Raises:
        ConfigError: the trial has trained on the test images that are asked for, or its configuration does not fit the
            code that it names.
        CodeError: the code of a data set of one's own cannot be imported.
        DataError: the images are not there and cannot be downloaded, or are not the network's.
        ValueError: the network's outputs are not finite.
    """
    images, labels = labelled_images(network.config, part, data_dir)
    if labels.max() >= (count := len(network.classes)):
        raise DataError(
            f"{network.config.data} has a class {labels.max()}: expected those of the network, 0 to {count - 1}"
        )
    made = Predictions.from_logits(labels, logits_of(network, images))
    averaged = None
    if network.config.flip:
        averaged = made.averaged_with(Predictions.from_logits(labels, logits_of(network, images, mirrored=True)))
    return Evaluation(network, part, images, made, averaged)


@dataclass(frozen=True)
class FilePrediction:
    """What a network says of an image file.

    Attributes:
        file: the file as it was named.
        likely: the most likely classes, the first first, with their probabilities.
        changes: what of the image was changed or left out, in words.
        error: why it was not predicted, in a line that names it; None where it was.
    """

    file: str
    likely: Sequence[tuple[str, float]] = ()
    changes: Sequence[str] = ()
    error: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return the values that ``predict --json`` prints."""
        if self.error is not None:
            return {"file": self.file, "error": self.error}
        likely = [{"class": name, "probability": probability} for name, probability in self.likely]
        return {"file": self.file, **likely[0], "next": likely[1:], "changes": list(self.changes)}

    def describe(self, width: int) -> str:
        """Return a line: the file, padded to a width, and its most likely classes with their probabilities."""
        likely = "  ".join(f"{_plain(name)} {probability:.4f}" for name, probability in self.likely)
        return f"{_plain(self.file):<{width}}  {likely}"


def predict(network: KeptNetwork, files: Sequence[Path], most: int = 3) -> Iterator[FilePrediction]:
    """Yield what a network says of image files, in their order.

    Args:
        network: what `resnet_core.load_model` returned.
        files: PNG or JPEG files.
        most: how many classes of each are told.
    """
    for start in range(0, len(files), _BATCH):
        some = files[start : start + _BATCH]
        read = [_read(network, file) for file in some]
        pixels = [each.pixels for each in read if not isinstance(each, DataError)]
        if pixels:
            logits = logits_of(network, np.stack(pixels))
            # No label is known, and none is used.
            said = iter(np.exp(Predictions.from_logits(np.zeros(len(pixels), np.int64), logits).log_probabilities))
        for file, each in zip(some, read, strict=True):
            if isinstance(each, DataError):
                yield FilePrediction(str(file), error=str(each))
                continue
            shares = next(said)
            order = np.argsort(-shares, kind="stable")[:most].tolist()
            likely = [(network.classes[label], float(shares[label])) for label in order]
            yield FilePrediction(str(file), likely, each.changes)


def _read(network: KeptNetwork, file: Path) -> Any:
    try:
        return read_input(network, file)
    except DataError as error:
        return error


def _of_split(config: TrialConfig, part: Part) -> str:
    if config.split == "official" and part == "validation":
        return ": the data set's test images"
    return ""


def _figures(made: Predictions) -> dict[str, Any]:
    return {
        "accuracy": {**dataclasses.asdict(accuracy(made)), "interval": "wilson"},
        "loss": {**dataclasses.asdict(mean_loss(made)), "interval": "student"},
    }


def _shown(estimate: Estimate) -> str:
    return f"{estimate.value:.4f} {_interval(estimate)}"


def _interval(estimate: Estimate) -> str:
    return f"[{estimate.low:.4f}, {estimate.high:.4f}]"


def _bin_row(found: ReliabilityBin) -> str:
    share = found.accuracy
    span = f"{found.low:.3f} to {found.high:.3f}"
    return f"  {span:<15}{found.images:>8,}{found.confidence:>9.4f}{share.value:>9.4f}  {_interval(share)}"


def _plain(text: str) -> str:
    """Return a text from a file without characters that a terminal would obey."""
    return "".join(character if character.isprintable() else "?" for character in text)
