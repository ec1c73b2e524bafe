"""An epoch's record: metrics of the trainer that ships in fields, all others by name."""

import math

import numpy as np
import pytest

from resnet_core.records import METRICS, RESERVED, SHARES, EpochRecord, metric_curve, metric_texts


def test_a_metric_with_a_field_is_in_the_field_and_any_other_in_metrics():
    record = EpochRecord.from_values(3, {"val_loss": 0.5, "f1": 0.75})
    assert record == EpochRecord(3, val_loss=0.5, metrics={"f1": 0.75})
    assert (record.get("val_loss"), record.get("f1"), record.get("val_acc"), record.get("bleu")) == (
        *(0.5, 0.75),
        *(None, None),
    )


def test_values_are_all_that_was_measured():
    assert EpochRecord.from_values(1, {"f1": 0.75, "acc": 0.5, "lr": None}).values() == {"acc": 0.5, "f1": 0.75}


def test_a_value_that_is_not_finite_was_measured():
    values = EpochRecord.from_values(1, {"loss": math.nan, "perplexity": math.inf}).values()
    assert math.isnan(values.pop("loss"))
    assert values == {"perplexity": math.inf}


@pytest.mark.parametrize("values", [{}, dict.fromkeys(METRICS, 0.5), {"loss": 0.1 + 0.2, "f1": 0.75}])
def test_a_record_comes_back_from_its_dictionary(values):
    record = EpochRecord.from_values(2, values)
    assert EpochRecord.from_dict(record.to_dict()) == record


def test_a_dictionary_of_version_0_1_0_has_none_for_what_was_not_measured():
    assert EpochRecord.from_dict({"epoch": 1, "loss": 0.5, "power_watts": None}) == EpochRecord(1, 0.5)


def test_numbers_of_numpy_become_floats():
    (value,) = EpochRecord.from_values(1, {"f1": np.float32(0.5)}).values().values()
    assert type(value) is float


@pytest.mark.parametrize("value", ["high", True, [0.5]])
def test_a_value_that_is_no_number_is_refused_with_its_name(value):
    with pytest.raises(ValueError, match=r"metric 'f1' = .*: expected a number"):
        EpochRecord.from_values(1, {"f1": value})


@pytest.mark.parametrize("name", sorted(RESERVED))
def test_a_name_that_the_store_uses_otherwise_is_refused(name):
    with pytest.raises(ValueError, match=f"metric '{name}': expected another name"):
        EpochRecord.from_values(1, {name: 0.5})


@pytest.mark.parametrize("name", ["", "1st", "f1(macro)", "größe", "a" * 251, "a//b", "a/", "a/./b", "a/../b", "a/.."])
def test_a_name_that_mlflow_would_refuse_is_refused(name):
    with pytest.raises(ValueError, match="MLflow takes no other name"):
        EpochRecord.from_values(1, {name: 0.5})


def test_a_curve_is_nan_where_the_metric_was_not_measured():
    curve = metric_curve([EpochRecord(1, 0.5), EpochRecord(2)], "loss")
    assert curve[0] == 0.5
    assert math.isnan(curve[1])


def test_texts_leave_out_what_tells_about_speed_alone():
    values = dict.fromkeys(METRICS, 0.5) | {"f1": 12.3456}
    top5 = ["val_top5_acc", "test_top5_acc"]
    names = [text.split(" ")[0] for text in metric_texts(values)]
    assert names == ["loss", "acc", "val_loss", "val_acc", "lr", "test_loss", "test_acc", *top5, "f1"]
    assert metric_texts(values)[-1] == "f1 12.35"


def test_the_shares_are_the_accuracies():
    assert {"acc", "val_acc", "test_acc", "val_top5_acc", "test_top5_acc"} == SHARES
