"""Figures of what a network says of images: those it is most wrong about, its confusions, its calibration."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.colors import LinearSegmentedColormap, to_rgb
from matplotlib.figure import Figure
from numpy.typing import NDArray

from analysis.plots.canvas import COLOURS, check_suffix, literal, new_figure, saved
from analysis.statistics.calibration import ReliabilityBin
from analysis.statistics.classification import Integers

_COLUMNS = 5
_MOST_NAMED = 20  # classes; more have no room for their names
_MOST_COUNTED = 12  # classes; more have no room for the counts
_LONGEST = 16  # characters of a class's name


def plot_images(
    images: NDArray[np.uint8], titles: Sequence[str], title: str = "", path: Path | str | None = None
) -> Figure:
    """Draw images in rows of five, each with a text below it.

    Args:
        images: shape (images, channels, height, width), of one channel or three.
        titles: the texts, one each; they may have several lines.
        title: title of the figure.
        path: where to save the figure, as .png, .pdf or .svg; None saves no file.

    Returns:
        The figure, with an axes for each image. It belongs to no window and to no global state.

    Raises:
        ValueError: there is no image, or the path has another suffix.
    """
    check_suffix(path)
    if not len(images):
        raise ValueError("no image to draw")
    rows = -(-len(images) // _COLUMNS)
    figure = new_figure(2.1 * _COLUMNS, 2.6 * rows + 0.5)
    places = figure.subplots(rows, _COLUMNS, squeeze=False)
    for axes in places.flat:
        axes.axis("off")
    for axes, image, text in zip(places.flat, images, titles, strict=False):
        shown = image.transpose(1, 2, 0)
        if shown.shape[2] == 1:
            axes.imshow(shown[:, :, 0], cmap="gray", vmin=0, vmax=255, interpolation="nearest")
        else:
            axes.imshow(shown, interpolation="nearest")
        said = "\n".join(literal(line) for line in text.splitlines())
        axes.text(0.5, -0.03, said, transform=axes.transAxes, ha="center", va="top", fontsize=9, linespacing=1.3)
    if title:
        figure.suptitle(literal(title))
    figure.set_layout_engine("constrained", h_pad=0.15)
    return saved(figure, path)


def plot_confusion(
    confusion: Integers, classes: Sequence[str], title: str = "", path: Path | str | None = None
) -> Figure:
    """Draw a confusion matrix: a row for each true class, a column for each predicted one.

    A cell's colour is the share of its row, which is the class's number of images; up to 12 classes have their numbers,
    up to 20 their names.

    Args:
        confusion: what `analysis.statistics.classification.confusion_matrix` returned.
        classes: names of the classes.
        title: title of the figure.
        path: where to save the figure, as .png, .pdf or .svg; None saves no file.

    Returns:
        The figure. It belongs to no window and to no global state.

    Raises:
        ValueError: the path has another suffix.
    """
    check_suffix(path)
    count = len(confusion)
    figure = new_figure(7.5, 6.6)
    axes = figure.subplots()
    shares = confusion / np.maximum(confusion.sum(axis=1, keepdims=True), 1)
    # The errors are what is looked for: on the scale of a root, a few of them show beside the diagonal.
    # Its opacity says it, since a page has light paper or dark; black on the strongest can be read as well.
    shades = LinearSegmentedColormap.from_list("shades", [(*to_rgb(COLOURS[0]), a) for a in (0.0, 0.75)], N=16)
    drawn = axes.pcolormesh(np.sqrt(shares), cmap=shades, vmin=0, vmax=1)
    axes.set_aspect("equal")
    axes.invert_yaxis()
    middles = np.arange(count) + 0.5
    if count <= _MOST_COUNTED:
        for true, predicted in np.argwhere(confusion):
            axes.text(
                middles[predicted],
                middles[true],
                f"{confusion[true, predicted]:,}",
                ha="center",
                va="center",
                fontsize=9,
            )
    if count <= _MOST_NAMED:
        names = [literal(shortened(name)) for name in classes]
        axes.set_xticks(middles, names, rotation=45, ha="right", rotation_mode="anchor")
        axes.set_yticks(middles, names)
    axes.set_xlabel("predicted class")
    axes.set_ylabel("true class")
    bar = figure.colorbar(drawn, ax=axes, shrink=0.8, label="share of the true class's images")
    ticks = (0, 0.01, 0.05, 0.1, 0.25, 0.5, 1)
    bar.set_ticks([tick**0.5 for tick in ticks], labels=[f"{tick:.0%}" for tick in ticks])
    if title:
        figure.suptitle(literal(title))
    return saved(figure, path)


def plot_reliability(bins: Sequence[ReliabilityBin], title: str = "", path: Path | str | None = None) -> Figure:
    """Draw a reliability diagram: accuracy over the probability of the predicted class, and below it how many images.

    A point on the diagonal is calibrated; below it the network is too sure. Bars are 95 % intervals of the accuracy
    (Wilson). The number of images is on a logarithmic axis.

    Args:
        bins: what `analysis.statistics.calibration.reliability` returned.
        title: title of the figure.
        path: where to save the figure, as .png, .pdf or .svg; None saves no file.

    Returns:
        The figure, with two axes from top to bottom. It belongs to no window and to no global state.

    Raises:
        ValueError: the path has another suffix.
    """
    check_suffix(path)
    figure = new_figure(5.5, 6.5)
    top, bottom = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    top.plot((0, 1), (0, 1), color="grey", linewidth=1, linestyle="--", label="calibrated")
    means = [each.confidence for each in bins]
    shares = [each.accuracy.value for each in bins]
    below = [each.accuracy.value - each.accuracy.low for each in bins]
    above = [each.accuracy.high - each.accuracy.value for each in bins]
    top.errorbar(
        means,
        shares,
        (below, above),
        color=COLOURS[0],
        marker="o",
        markersize=5,
        linewidth=1.2,
        elinewidth=1.2,
        capsize=3,
        label="this network",
    )
    top.set_ylim(-0.02, 1.02)
    top.set_ylabel("share predicted right")
    top.legend(loc="upper left", fontsize="small")
    edges, counts = [each.low for each in bins], [each.images for each in bins]
    bottom.bar(
        edges, counts, [each.high - each.low for each in bins], align="edge", color=COLOURS[0], edgecolor="white"
    )
    bottom.set_yscale("log")
    bottom.set_ylim(bottom=0.7)
    bottom.set_ylabel("images")
    bottom.set_xlabel("probability of the predicted class")
    bottom.set_xlim(-0.02, 1.02)
    for axes in (top, bottom):
        axes.grid(alpha=0.3)
    if title:
        figure.suptitle(literal(title))
    figure.align_ylabels()
    return saved(figure, path)


def shortened(name: str) -> str:
    """Return a class's name, cut where it is long.

    >>> shortened("airplane"), shortened("a very long name of a class")
    ('airplane', 'a very long nam…')
    """
    return name if len(name) <= _LONGEST else name[: _LONGEST - 1] + "…"
