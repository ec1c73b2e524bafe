"""TrialConfig: everything that determines one training run."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, fields
from functools import cached_property
from typing import Any, Literal, get_args

from resnet_core import models
from resnet_core.code import is_reference
from resnet_core.data import DATASETS, DatasetInfo, Split
from resnet_core.optim import OPTIMIZERS
from resnet_core.schedule import Schedule, parse

Precision = Literal["fp32", "bf16"]
Head = Literal["average", "max", "flatten"]
Option = bool | int | float | str
"""A value of an option."""
IMAGE_FOLDER = "imagefolder:"
"""What a data set begins with that is a folder of images."""


class ConfigError(ValueError):
    """A field of TrialConfig has an invalid value.

    Attributes:
        field: name of the field.
        value: the value that was given.
        expected: the valid values, in words.
    """

    def __init__(self, field: str, value: object, expected: str) -> None:
        # pickle passes the base class's arguments to __init__ in another process, so they must be all arguments.
        super().__init__(field, value, expected)
        self.field, self.value, self.expected = field, value, expected

    def __str__(self) -> str:
        return f"{self.field} = {self.value!r}: expected {self.expected}"


class Options(Mapping[str, Option]):
    """Options of a network or an optimizer by name: a mapping that cannot be changed, and can be hashed.

    >>> Options({"width": 16}) == {"width": 16}
    True
    """

    def __init__(self, values: Mapping[str, Option] | None = None) -> None:
        self._values = dict(sorted((values or {}).items()))

    def __getitem__(self, name: str) -> Option:
        return self._values[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __hash__(self) -> int:
        return hash(tuple(self._values.items()))

    def __repr__(self) -> str:
        return repr(self._values)


@dataclass(frozen=True)
class TrialConfig:
    """Everything that determines one training run. Hashable and comparable; needs no torch.

    Attributes:
        schedule: learning rate over epochs, in the schedule notation; kept as canonical text.
        model: name of a network (resnet_core.models), or ``module:factory`` for one of your own.
        model_options: options of a network of your own: parameters of its factory that are not given otherwise.
        bottleneck: filters inside a ResNet v2 unit as a share of its output filters; None is the published
            1/4 in the first stack and 1/2 in the others.
        shortcut_kernel: side of the kernels on ResNet v2's projected shortcuts, 1 (published) or 3.
        head: pooling before a ResNet v2's dense layer: ``average`` or ``max`` over the whole map, or ``flatten``:
            average pooling to 2×2, whose values all go to the dense layer.
        conv_bias: whether a ResNet v2's convolutions have a bias. BN removes each bias again, so its true gradient is
            zero.
        skip_conv_bias: leave these biases out of the computation: they stay 0, and a step takes less time. All else is
            the same up to rounding.
        bn_momentum: share of the old running statistics that a step keeps (as in Keras; torch's momentum is 1 minus
            it); None is the network's default: 0.99 for ResNet v2, 0.9 for the others.
        data: name of a data set (resnet_core.data), ``imagefolder:PATH``, or ``module:object`` for one of your own.
        split: which images train and which validate: ``official``, ``pooled`` or ``held-out``; see
            resnet_core.data.
        image_size: height and width of the images in pixels, one of the data set's image sizes; None is its largest
            (32 for cifar10). In a smaller image, a pixel is the mean of a square of the larger one's.
        train_limit: largest number of training images: a stratified sample, drawn from the seed; None is all.
        val_limit: largest number of validation images: a stratified sample, drawn from the seed; None is all.
        batch_size: images per step; the last step of an epoch takes the rest.
        optimizer: name of an optimizer (resnet_core.optim), or ``module:class`` for one of your own or of torch, such
            as ``torch.optim:RMSprop``.
        optimizer_options: options of such a class: parameters of its constructor that are not given otherwise.
        weight_decay: λ, decoupled: with any optimizer, every step subtracts lr·λ·w from every weight w.
        weight_decay_schedule: λ over epochs in the schedule notation, instead of a constant weight_decay.
        l2: factor of Σw² over convolution kernels in the loss; its gradient is 2·l2·w (Keras's l2).
        momentum: momentum of sgd; β₁ of the other optimizers.
        momentum_schedule: momentum over epochs in the schedule notation, instead of a constant momentum.
        beta2: β₂ of all optimizers but sgd.
        eps: ε of all optimizers but sgd, added to √v before its bias correction; 1e-7 is Keras's default.
        padam_p: Padam's p: 1/2 is AMSGrad; near 0 it is close to SGD with momentum.
        nesterov: Nesterov's momentum, for sgd.
        plateau_factor: factor on the learning rate when val_loss has stopped falling (torch's
            ReduceLROnPlateau, on top of the schedule); None is off.
        plateau_patience: number of epochs without a lower val_loss that are allowed before a cut.
        plateau_threshold: the share by which val_loss must fall to count as lower.
        plateau_cooldown: epochs after a cut that are not counted.
        plateau_min_lr: the learning rate below which the plateau rule does not cut.
        ema: decay per step of an exponential moving average of weights and BN statistics. The average is validated in
            place of the network. 0 is off.
        bn_recalibration: number of training images, not augmented, on which BN's statistics are measured before every
            validation; only that validation uses them. 0 is off: validation uses the running statistics.
        shift: images are moved by up to ±shift·image_size pixels on both axes; 0 is off.
        flip: half of the images are mirrored left to right.
        crop: black pixels that are added on each side of an image before a random crop to the old size; 0 is off.
        cutout: side in pixels of a square at a random place that is set to the mean; 0 is off.
        epochs: number of epochs of the run (its horizon); None is the schedule's last epoch.
        seed: seed of the initial weights, the order of images, augmentation, and the ``pooled`` split.
        precision: ``fp32``, or ``bf16`` autocast, faster on GPUs and on some CPUs: ``sweeps doctor`` measures it.
        fused: on a GPU, use Triton kernels for a ResNet v2's batch norm, ReLU and residual sums, and for the
            optimizer's step. False uses torch's operations. Results are the same up to rounding.
        compile: pass the network through torch.compile; needs a C++ compiler. Later trials reuse its cache.
        test: after each epoch, evaluate the test images of the ``held-out`` split; no decision depends on the result.
        data_info: sizes of a data set of your own, which a study finds out when it is checked; None for one that ships.

    Raises:
        ConfigError: a field has an invalid value.
        ScheduleError: a schedule is not in the notation.
    """

    schedule: str
    model: str = "resnet56v2"
    model_options: Mapping[str, Option] = Options()
    bottleneck: float | None = None
    shortcut_kernel: int = 1
    head: Head = "average"
    conv_bias: bool = True
    skip_conv_bias: bool = False
    bn_momentum: float | None = None
    data: str = "cifar10"
    split: Split = "official"
    image_size: int | None = None
    train_limit: int | None = None
    val_limit: int | None = None
    batch_size: int = 64
    optimizer: str = "adamw"
    optimizer_options: Mapping[str, Option] = Options()
    weight_decay: float = 0.0
    weight_decay_schedule: str | None = None
    l2: float = 0.0
    momentum: float = 0.9
    momentum_schedule: str | None = None
    beta2: float = 0.999
    eps: float = 1e-7
    padam_p: float = 0.125
    nesterov: bool = False
    plateau_factor: float | None = None
    plateau_patience: int = 10
    plateau_threshold: float = 1e-4
    plateau_cooldown: int = 0
    plateau_min_lr: float = 0.0
    ema: float = 0.0
    bn_recalibration: int = 0
    shift: float = 0.0
    flip: bool = True
    crop: int = 0
    cutout: int = 0
    epochs: int | None = None
    seed: int = 0
    precision: Precision = "fp32"
    fused: bool = True
    compile: bool = False
    test: bool = False
    data_info: DatasetInfo | None = None

    def __post_init__(self) -> None:
        for name in OPTION_TABLES:
            self._require(name, isinstance(getattr(self, name), Mapping), "a table of options")
            for option, value in getattr(self, name).items():
                if not isinstance(value, bool | str) and not _is_number(value):
                    raise ConfigError(f"{name}.{option}", value, "true, false, a finite number or a text")
            object.__setattr__(self, name, Options(getattr(self, name)))
        self._check_schedules()
        self._check_choices()
        self._check_model()
        self._check_numbers()
        self._check_training()

    def _check_schedules(self) -> None:
        for name, constant in _SCHEDULES.items():
            text = getattr(self, name)
            if text is None and constant:
                continue
            self._require(name, isinstance(text, str), "a text")
            parsed = parse(text)
            object.__setattr__(self, name, str(parsed))
            if constant and getattr(self, constant) != _DEFAULTS[constant]:
                raise ConfigError(constant, getattr(self, constant), f"none where {name} is given: one of the two")
            if name == "momentum_schedule" and parsed.peak >= 1:
                raise ConfigError(name, text, "values below 1")

    def _check_choices(self) -> None:
        for name, choices in _CHOICES.items():
            self._require(name, getattr(self, name) in choices, "one of " + ", ".join(choices))
        for name in ("data", "optimizer"):
            expected = name_problem(name, getattr(self, name))
            self._require(name, not expected, expected)
        for name in _SWITCHES:
            self._require(name, isinstance(getattr(self, name), bool), "true or false")

    def _check_model(self) -> None:
        self._require("model", isinstance(self.model, str), "a text")
        self._set_image_size()
        if is_reference(self.model):  # its code says which options and images it takes: see resnet_core.own
            return
        try:
            network, _ = models.find(self.model)
        except LookupError as error:
            raise ConfigError("model", self.model, f'{error}, or "module:factory" for one of your own') from None
        self._require("model_options", not self.model_options, f"none: {self.model} has fields of TrialConfig instead")
        for name in _NETWORK_OPTIONS - network.options.keys():
            self._require(name, getattr(self, name) == _DEFAULTS[name], f"none: {self.model} does not take it")
        for name, values in network.options.items():
            expected = " or ".join(str(value) for value in values if value is not None)
            self._require(name, getattr(self, name) in values, expected)
        self._require("skip_conv_bias", self.conv_bias or not self.skip_conv_bias, "false where conv_bias is false")
        if self.data in DATASETS:
            sizes = [size for size in DATASETS[self.data].image_sizes if size >= network.smallest_image]
            expected = " or ".join(map(str, sizes)) or f"none fits: {self.model} takes {network.smallest_image} or more"
            self._require("image_size", self.image_size in sizes, f"{expected} for {self.model} on {self.data}")
        else:
            expected = f"{network.smallest_image} or more for {self.model}"
            self._require("image_size", (self.image_size or math.inf) >= network.smallest_image, expected)

    def _set_image_size(self) -> None:
        if self.image_size is None and self.data in DATASETS:
            object.__setattr__(self, "image_size", DATASETS[self.data].default_image_size)
        expected = "a whole number of pixels"
        if self.data in DATASETS:
            expected = f"{' or '.join(map(str, DATASETS[self.data].image_sizes))} for {self.model} on {self.data}"
        whole = self.image_size is None or (_is_int(self.image_size) and self.image_size > 0)
        self._require("image_size", whole, expected)
        of_own = self.data not in DATASETS
        self._require("data_info", self.data_info is None or of_own, f"none: {self.data} ships")

    def _check_numbers(self) -> None:
        for name, lowest in _WHOLE.items():
            value = getattr(self, name)
            optional = value is None and _DEFAULTS[name] is None
            self._require(name, optional or (_is_int(value) and value >= lowest), f"a whole number of {lowest} or more")
        self._require("seed", _is_int(self.seed) and 0 <= self.seed < 2**32, "a whole number from 0 to 2^32 - 1")
        for name in ("weight_decay", "l2", "plateau_threshold", "plateau_min_lr"):
            self._require(name, _is_number(getattr(self, name)) and getattr(self, name) >= 0, "a number of 0 or more")
        for name in ("momentum", "beta2", "ema"):
            self._require(name, _is_number(getattr(self, name)) and 0 <= getattr(self, name) < 1, "0 <= value < 1")
        self._require("eps", _is_number(self.eps) and self.eps > 0, "a number above 0")
        self._require("padam_p", _is_number(self.padam_p) and 0 < self.padam_p <= 0.5, "0 < value <= 0.5")
        for name in ("plateau_factor", "bn_momentum"):
            value = getattr(self, name)
            self._require(name, value is None or (_is_number(value) and 0 < value < 1), "0 < value < 1")
        self._require(
            "shift",
            _is_number(self.shift) and 0 <= self.shift < 0.5,
            "a share of the image, 0 <= shift < 0.5",
        )
        for name in ("crop", "cutout"):
            half = math.inf if self.image_size is None else self.image_size // 2
            self._require(name, getattr(self, name) <= half, "at most half of the image's side")

    def _check_training(self) -> None:
        expected = f"false with split = {self.split!r}: only the held-out split leaves test images untouched"
        self._require("test", not self.test or self.split == "held-out", expected)
        with_nesterov = [name for name, rule in OPTIMIZERS.items() if "nesterov" in rule.settings()]
        possible = self.optimizer not in set(OPTIMIZERS) - set(with_nesterov) and (
            self.momentum_schedule is not None or self.momentum > 0
        )
        expected = f"false unless the optimizer is {' or '.join(with_nesterov)} with momentum"
        self._require("nesterov", not self.nesterov or possible, expected)
        for name in self.optimizer_options if self.optimizer in OPTIMIZERS else ():
            raise ConfigError(
                f"optimizer_options.{name}", self.optimizer_options[name], f"none: {self.optimizer} has fields instead"
            )
        cut = self.plateau_factor is None or self.lr_alpha > 0
        self._require("plateau_factor", cut, "none: a learning rate of 0 throughout cannot be cut")
        self._require(
            "schedule",
            self.horizon >= 1,
            "a last epoch of 1 or more, or epochs beside it: the run has no length",
        )

    def _require(self, name: str, ok: bool, expected: str) -> None:
        if not ok:
            raise ConfigError(name, getattr(self, name), expected)

    @cached_property
    def lr_schedule(self) -> Schedule:
        """The learning rate over epochs."""
        return parse(self.schedule)

    @cached_property
    def wd_schedule(self) -> Schedule | None:
        """λ over epochs, or None where weight_decay is a constant."""
        return None if self.weight_decay_schedule is None else parse(self.weight_decay_schedule)

    @cached_property
    def mom_schedule(self) -> Schedule | None:
        """The momentum over epochs, or None where it is a constant."""
        return None if self.momentum_schedule is None else parse(self.momentum_schedule)

    @property
    def side(self) -> int:
        """Height and width of the images in pixels."""
        assert self.image_size is not None
        return self.image_size

    @property
    def horizon(self) -> int:
        """Epochs the run lasts when nothing stops it."""
        return self.epochs if self.epochs is not None else math.ceil(self.lr_schedule.last_epoch)

    @property
    def lr_alpha(self) -> float:
        """The highest learning rate of the schedule; the published tables call it LR alpha."""
        return self.lr_schedule.peak

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as plain values; ``TrialConfig.from_dict`` takes them back.

        What only code of one's own has is left out where it is empty: ``model_options``, ``optimizer_options`` and
        ``data_info``.
        """
        values = {name: getattr(self, name) for name in TRIAL_CONFIG_FIELDS_IN_ORDER}
        values |= {name: dict(options) for name in OPTION_TABLES if (options := values.pop(name))}
        return values if self.data_info is None else {**values, "data_info": asdict(self.data_info)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> TrialConfig:
        """Return the config with these plain values. Raises ConfigError for an unknown name."""
        unknown = values.keys() - TRIAL_CONFIG_FIELDS - {"data_info"}
        if unknown:
            name = min(unknown)
            raise ConfigError(name, values[name], "a field of TrialConfig: " + ", ".join(sorted(TRIAL_CONFIG_FIELDS)))
        info = values.get("data_info")
        return cls(**values) if info is None else cls(**{**values, "data_info": DatasetInfo(**info)})


def name_problem(field: str, name: object) -> str:
    """Return what ``data`` or ``optimizer`` expects if a name is none; an empty text if it is, and for other fields."""
    if field == "data" and name not in list(DATASETS) and not is_own_data(name):
        return DATA_EXPECTED
    if field == "optimizer" and name not in list(OPTIMIZERS) and not is_reference(name):
        return OPTIMIZER_EXPECTED
    return ""


def is_own_data(name: object) -> bool:
    """Return whether a config's ``data`` is a folder of images, or has the form ``module:object``."""
    return is_reference(name) or (isinstance(name, str) and name.startswith(IMAGE_FOLDER) and name != IMAGE_FOLDER)


def names_code(config: TrialConfig) -> bool:
    """Return whether a config names a network, a data set or an optimizer of one's own."""
    return is_reference(config.model) or is_own_data(config.data) or is_reference(config.optimizer)


def dataset_info(config: TrialConfig) -> DatasetInfo:
    """Return the sizes of a config's data set; nothing is imported for one of one's own.

    Raises:
        ConfigError: a data set of one's own without ``data_info``; see resnet_core.own.resolve.
    """
    if config.data in DATASETS:
        return DATASETS[config.data]
    if config.data_info is None:
        raise ConfigError("data_info", None, f"the sizes of {config.data}; resnet_core.own.resolve finds them out")
    return config.data_info


def epoch_sizes(config: TrialConfig) -> tuple[int, int]:
    """Return how many images an epoch of ``config`` trains and validates on.

    Raises:
        ConfigError: see ``dataset_info``.
    """
    train_size, val_size = dataset_info(config).split_sizes(config.split)
    return min(train_size, config.train_limit or train_size), min(val_size, config.val_limit or val_size)


OPTION_TABLES = ("model_options", "optimizer_options")
"""The fields that are tables of options."""
TRIAL_CONFIG_FIELDS_IN_ORDER = tuple(f.name for f in fields(TrialConfig) if f.name != "data_info")
TRIAL_CONFIG_FIELDS = frozenset(TRIAL_CONFIG_FIELDS_IN_ORDER)
"""The fields that a study file may set."""
SCHEDULE_FIELDS = ("schedule", "weight_decay_schedule", "momentum_schedule")
"""The fields that are texts in the schedule notation."""

_DEFAULTS: dict[str, Any] = {f.name: f.default for f in fields(TrialConfig)}
# Each schedule field, and the constant field that it replaces.
_SCHEDULES = dict(zip(SCHEDULE_FIELDS, ("", "weight_decay", "momentum"), strict=True))
_CHOICES: dict[str, tuple[str, ...]] = {
    "split": get_args(Split),
    "precision": get_args(Precision),
    "head": get_args(Head),
}
_NETWORK_OPTIONS = {name for network in models.NETWORKS.values() for name in network.options}
_OWN = '"module:{}" for one of your own'
DATA_EXPECTED = f'one of {", ".join(DATASETS)}, or "{IMAGE_FOLDER}PATH", or {_OWN.format("object")}'
OPTIMIZER_EXPECTED = f"one of {', '.join(OPTIMIZERS)}, or {_OWN.format('class')}"
_SWITCHES = ("nesterov", "flip", "conv_bias", "skip_conv_bias", "fused", "compile", "test")
_WHOLE = {
    "train_limit": 1,
    "val_limit": 1,
    "batch_size": 1,
    "epochs": 1,
    "plateau_patience": 0,
    "plateau_cooldown": 0,
    "bn_recalibration": 0,
    "crop": 0,
    "cutout": 0,
}


def _is_int(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < math.inf
