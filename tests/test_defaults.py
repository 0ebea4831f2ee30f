"""What parameters accept, and what their "auto" comes to."""

from functools import partial

import numpy as np
import pytest

from skmemae import MemAEDetector, _resolve
from skmemae._data.layout import choose_layout
from skmemae._resolve import CONSTRAINTS, check_numbers, resolve


@pytest.mark.parametrize(
    "array_shape, unit, expected",
    [
        ((1,), "sample", (64, 2)),
        ((6,), "sample", (64, 3)),
        ((120,), "sample", (64, 32)),
        ((8, 8), "sample", (16, 32)),
        ((28, 28), "sample", (16, 32, 64, 32)),
        ((32, 32, 3), "location", (16, 32, 64)),
        ((1, 16, 256, 256), "location", (16, 32, 64, 64)),
    ],
)
def test_widths_follow_the_shape(array_shape, unit, expected):
    assert _resolve.resolve_widths(None, choose_layout(array_shape), unit) == expected
    assert _resolve.resolve_widths([np.int64(7), 5], choose_layout(array_shape), unit) == (7, 5)


@pytest.mark.parametrize("n, expected", [(2, 2), (40, 10), (300, 75), (400, 100), (10**6, 100)])
def test_memory_size_is_a_quarter_of_the_queries_up_to_a_hundred(n, expected):
    assert _resolve.resolve_memory_size("auto", n, choose_layout((6,)), "sample", (64, 3)) == expected
    assert _resolve.resolve_memory_size(7, n, choose_layout((6,)), "sample", (64, 3)) == 7


@pytest.mark.parametrize("n, expected", [(40, 10), (400, 100), (3000, 300), (10**5, 500)])
def test_images_get_a_tenth_of_their_number(n, expected):
    assert _resolve.resolve_memory_size("auto", n, choose_layout((28, 28)), "sample", (16, 32)) == expected


def test_locations_are_queries():
    layout = choose_layout((1, 4, 8, 8))
    assert _resolve.resolve_memory_size("auto", 3, layout, "location", (16, 32)) == 3 * 1 * 2 * 2 // 4
    assert _resolve.resolve_memory_size("auto", 10_000, layout, "location", (16, 32)) == 1000


@pytest.mark.parametrize("n", [2, 100, 1000, 20_000, 10**7])
@pytest.mark.parametrize("array_shape, most", [((6,), 1024), ((28, 28), 128), ((1, 8, 16, 16), 128)])
def test_batches_and_epochs_stay_in_their_bounds(n, array_shape, most):
    layout = choose_layout(array_shape)
    batch_size = _resolve.resolve_batch_size("auto", n, layout)
    epochs = _resolve.resolve_max_epochs("auto", n, batch_size, layout)
    assert 32 <= batch_size <= most and 20 <= epochs <= 200
    assert _resolve.resolve_batch_size(5, n, layout) == min(5, n) and _resolve.resolve_max_epochs(3, n, 5, layout) == 3


def test_batches_of_large_samples_are_small():
    sizes = [_resolve.resolve_batch_size("auto", 10_000, choose_layout(shape)) for shape in ((1, 9, 60, 90), (1, 16, 256, 256))]
    assert sizes == [2**20 // (9 * 60 * 90), 8]


@pytest.mark.parametrize(
    "array_shape, expected",
    [
        ((6,), ("log", "combined", 0.05, 4)),
        ((28, 28), ("contrast", "combined", 0.01, 1)),
        ((5, 3), ("log", "combined", 0.05, 4)),
        ((1, 3, 3), ("standard", "combined", 0.01, 1)),
        ((1, 8, 16, 16), ("standard", "combined", 0.05, 1)),
    ],
)
def test_each_kind_of_data_has_its_defaults(array_shape, expected):
    functions = (
        _resolve.resolve_scaling,
        partial(_resolve.resolve_anomaly_score, remembers=True),
        _resolve.resolve_temperature,
        _resolve.resolve_ensemble_size,
    )
    layout = choose_layout(array_shape)
    assert tuple(function("auto", layout) for function in functions) == expected
    given = (None, "reconstruction", 1.0, 2)
    assert tuple(function(value, layout) for function, value in zip(functions, given, strict=True)) == given


@pytest.mark.parametrize("array_shape, score", [((6,), "combined"), ((28, 28), "smooth"), ((1, 8, 16, 16), "relative")])
def test_without_a_memory_there_are_no_exemplars(array_shape, score):
    assert _resolve.resolve_anomaly_score("auto", choose_layout(array_shape), remembers=False) == score


@pytest.mark.parametrize("array_shape", [(6,), (28, 28), (1, 2, 16, 16)])
def test_motion_needs_clips(array_shape):
    with pytest.raises(ValueError, match="'motion' needs clips of at least 3 frames"):
        _resolve.resolve_anomaly_score("motion", choose_layout(array_shape), remembers=True)
    assert _resolve.resolve_anomaly_score("motion", choose_layout((1, 3, 16, 16)), remembers=True) == "motion"


@pytest.mark.parametrize("code, heads", [(3, 1), (15, 1), (16, 2), (17, 1), (18, 2), (24, 3), (32, 4)])
def test_wide_codes_of_large_tables_have_several_heads(code, heads):
    table, images = choose_layout((2 * code,)), choose_layout((28, 28))
    assert _resolve.resolve_memory_heads("auto", 10_000, table, (64, code)) == heads
    assert _resolve.resolve_memory_heads("auto", 9_999, table, (64, code)) == 1
    assert _resolve.resolve_memory_heads("auto", 10_000, images, (16, code)) == 1
    assert _resolve.resolve_memory_heads("auto", 10_000, table, None) == 1


def resolved(n, shape, **params):
    return resolve(MemAEDetector(**params).get_params(deep=False), choose_layout(shape), n)


def test_a_table_an_image_and_a_clip_with_everything_resolved():
    keys = ("backbone", "widths", "memory_size", "memory_unit", "memory_heads", "batch_size", "max_epochs")
    assert [resolved(1000, (6,))[key] for key in keys] == ["fc", (6,), 1000, "sample", 1, 64, 5]
    learned = resolved(1000, (6,), memory_unit="sample")
    assert [learned[key] for key in keys] == ["fc", (64, 3), 100, "sample", 1, 64, 128]
    assert [resolved(3000, (28, 28))[key] for key in keys] == ["conv2d", (16, 32, 64, 32), 300, "sample", 1, 128, 34]
    clip = resolved(100, (1, 8, 16, 16))
    assert [clip[key] for key in keys] == ["conv3d", (16, 32), 800, "location", 1, 32, 200]
    for params in (clip, resolved(1000, (6,))):
        assert set(params) == set(MemAEDetector().get_params(deep=False))
        left = {name for name, value in params.items() if isinstance(value, str) and value == "auto"}
        assert left == {"channel_axis", "device", "precision"}  # of the layout and of the machine


@pytest.mark.parametrize("columns, width", [(1, 2), (5, 5), (16, 16), (20, 16), (40, 20), (100, 32)])
def test_queries_of_rows_tell_few_columns_apart_and_codes_without_a_memory_do_not(columns, width):
    assert resolved(1000, (columns,))["widths"] == (width,)
    assert resolved(1000, (columns,), memory_size=0)["widths"] == (min(32, max(2, columns // 2)),)


def test_what_is_given_stays():
    given = {"widths": (9, 4), "memory_size": 0, "memory_heads": 2, "temperature": 1, "ensemble_size": 3, "scaling": None}
    given |= {"anomaly_score": "relative", "batch_size": 10, "max_epochs": 7, "shrink_threshold": 2}
    assert resolved(1000, (6,), **given).items() >= given.items()
    assert resolved(5, (6,), batch_size=10)["batch_size"] == 5


def test_a_callable_backbone_has_the_defaults_of_the_shape():
    params = resolved(20_000, (8,), backbone=max)
    assert params["backbone"] is max and params["memory_heads"] == 1 and params["scaling"] == "log"


@pytest.mark.parametrize(
    "shape, params, message",
    [
        ((6,), {"memory_unit": "location"}, "memory_unit='location' needs a feature map"),
        ((6,), {"anomaly_score": "smooth"}, "anomaly_score='smooth' needs images or clips"),
        ((6,), {"anomaly_score": "local"}, "anomaly_score='local' needs images or clips"),
        ((8, 8), {"widths": (4,)}, "at least 2 positive int"),
        ((6,), {"widths": (4, True)}, "at least 1 positive int"),
        ((6,), {"widths": ()}, "at least 1 positive int"),
    ],
)
def test_values_that_do_not_fit_each_other_or_the_data_are_named(shape, params, message):
    with pytest.raises(ValueError, match=message):
        resolved(100, shape, **params)


def test_every_parameter_has_a_constraint():
    assert set(CONSTRAINTS) == set(MemAEDetector().get_params())


@pytest.mark.parametrize("value", [True, False, np.inf, -np.inf, np.nan, np.float32(np.inf), 10**400])
def test_numbers_are_no_bools_and_fit_into_a_float(value):
    with pytest.raises(ValueError, match="'tol' parameter must"):
        check_numbers({"batch_size": 3, "tol": value})
    check_numbers({"tol": 10**300, "widths": (True,), "scaling": None})


@pytest.mark.parametrize("name", ["thin_repeats", "verbose", "random_state"])
def test_what_may_be_a_bool(name):
    check_numbers({name: True})


def test_repeats_are_thinned_where_the_data_is_clean_or_has_no_rows_in_memory():
    shares = (0.001, 0.019, 0.02, 0.1, "auto")
    assert [resolved(1000, (6,), contamination=c)["thin_repeats"] for c in shares] == [True, True, False, False, False]
    assert resolved(1000, (6,), memory_unit="sample")["thin_repeats"]
    assert not resolved(100, (8, 8))["thin_repeats"]


def test_a_memory_of_wide_rows_is_not_larger_than_a_million_numbers():
    assert resolved(10_000, (1000,))["memory_size"] == 2**20 // 1000
    assert resolved(10_000, (20_000,))["memory_size"] == 100
