"""Commands that look at a kept network: how good it is on labelled images, and what it says of image files."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from resnet_core.paths import PathError, check_target, expanded
from sweeps.api import DATA, data_folder
from sweeps.cli.app import FAILED, command, print_json, print_message, print_result, print_waiting
from sweeps.cli.options import DataOption, JsonOption, Store, choice, complete_name, writing
from sweeps.cli.training import DeviceOption, device_of
from sweeps.errors import InputError

if TYPE_CHECKING:
    from resnet_core import KeptNetwork
    from resnet_core.prediction import Part


@dataclass(frozen=True, kw_only=True)
class OneNetwork:
    """The options that select a kept network."""

    network: Annotated[
        str,
        typer.Argument(
            metavar="FILE|NAME",
            help="The file of a kept network, or a study's name for its best one; a file of that name wins.",
            autocompletion=complete_name,
        ),
    ]
    trial: Annotated[
        str, typer.Option("--trial", help="Of a study, the network of this trial.", show_default="the best")
    ] = ""
    code: Annotated[
        Path | None,
        typer.Option(
            "--code",
            help="Folder of the code that a FILE names; it is imported.",
            show_default="no code is imported for a FILE",
        ),
    ] = None

    def open(self, store: Store, device: str, *, with_data: bool = False) -> KeptNetwork:
        """Return the network, on a device.

        Args:
            store: where studies are.
            device: what was typed after --device.
            with_data: whether its data set is needed, too.

        Raises:
            InputError: there is none, or it cannot be used.
        """
        file = self._file()
        import torch

        from sweeps.execution.machine import available_cores
        from sweeps.inspection.open_network import open_file, open_kept

        there = device_of(device, torch.cuda.device_count())
        torch.set_num_threads(available_cores())
        if file is not None:
            return open_file(file, there, self.code, with_data=with_data)
        return open_kept(store.open(), self.network, self.trial, there)

    def _file(self) -> Path | None:
        """Return the file that is meant; None where it is the name of a study."""
        try:
            path = expanded(self.network)
            is_file = path.is_file()
        except (OSError, PathError) as error:
            raise InputError(f"{self.network}: {getattr(error, 'strerror', None) or error}") from None
        if is_file and self.trial:
            raise InputError(f"--trial {self.trial}: expected with the name of a study; {path} is one network")
        if not is_file and self.code is not None:
            raise InputError(f"--code {self.code}: expected with a file; a study's code is what its launch has noted")
        if not is_file and (path.suffix == ".safetensors" or len(path.parts) > 1):
            raise InputError(f"{self.network}: no such file; expected that of a kept network, or the name of a study")
        return path if is_file else None


@command()
def evaluate(
    one: OneNetwork,
    *,
    split: Annotated[str, choice("--split", "validation", "test", help="The images of the data set: ")] = "validation",
    out: Annotated[
        Path | None,
        typer.Option("--out", help="Folder for pictures: the images it is most wrong about, confusions, reliability."),
    ] = None,
    device: DeviceOption = "",
    store: Store,
    data: DataOption = DATA,
    as_json: JsonOption = False,
) -> None:
    """Tell how good a kept network is on the images of its data set.

    The command tells accuracy and loss with intervals, calibration, each class, and which were taken for which.
    """
    folder = data_folder(data)
    if out is not None:
        with writing("--out", out):
            out.mkdir(exist_ok=True)
            check_target(out / "confusion.png")
    network = one.open(store, device, with_data=True)
    from sweeps.inspection.evaluation import evaluate as evaluate_network

    part = cast("Part", split)
    if part == "test":
        print_message(_on_test_images(network.config.split))
    print_waiting("predicting ...")
    found = evaluate_network(network, part, folder)
    pictures = []
    if out is not None:
        with writing("--out", out):
            pictures = found.draw(out)
    if as_json:
        print_json({**found.to_dict(), "pictures": [str(picture) for picture in pictures]})
        return
    print_result(found.describe())
    for picture in pictures:
        print_message(f"drawn into {picture}")
    if out is None:
        print_message("--out FOLDER draws the images that it is most wrong about, the confusions and the reliability")


@command()
def predict(
    one: OneNetwork,
    images: Annotated[list[Path], typer.Argument(metavar="IMAGE...", help="PNG or JPEG files.")],
    *,
    device: DeviceOption = "",
    store: Store,
    as_json: JsonOption = False,
) -> None:
    """Tell what a kept network takes images for: the three most likely classes of each, with their probabilities.

    The exit code is 1 where an image could not be read; the others are predicted.
    """
    network = one.open(store, device)
    from sweeps.inspection.evaluation import predict as predict_files

    width = min(40, max(len(str(image)) for image in images))
    found = []
    for each in predict_files(network, images):
        found.append(each)
        if each.error is not None:
            print_message(f"sweeps: {each.error}")
        elif not as_json:
            print_result(each.describe(width))
            for change in each.changes:
                print_message(f"{each.file}: {change}")
    if as_json:
        print_json([each.to_dict() for each in found])
    if any(each.error is not None for each in found):
        raise typer.Exit(FAILED)


def _on_test_images(split: str) -> str:
    if split == "official":
        return "with split official the test images are the validation images: the trial was chosen by them"
    return (
        "the test images tell about new images as long as nothing was chosen by them: a network, a setting or an epoch "
        "that is chosen by this result uses them up"
    )
