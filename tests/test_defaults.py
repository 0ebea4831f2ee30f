"""What the "auto" of the parameters comes to."""

import numpy as np
import pytest

from skmemae import defaults
from skmemae.engine.samples import plan_layout


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
    assert defaults.widths(None, plan_layout(array_shape), unit) == expected
    assert defaults.widths([np.int64(7), 5], plan_layout(array_shape), unit) == (7, 5)


@pytest.mark.parametrize("n, expected", [(2, 2), (40, 10), (300, 75), (400, 100), (10**6, 100)])
def test_memory_size_is_a_quarter_of_the_queries_up_to_a_hundred(n, expected):
    assert defaults.memory_size("auto", n, plan_layout((6,)), "sample", (64, 3)) == expected
    assert defaults.memory_size(7, n, plan_layout((6,)), "sample", (64, 3)) == 7


@pytest.mark.parametrize("n, expected", [(40, 10), (400, 100), (3000, 300), (10**5, 500)])
def test_images_get_a_tenth_of_their_number(n, expected):
    assert defaults.memory_size("auto", n, plan_layout((28, 28)), "sample", (16, 32)) == expected


def test_locations_are_queries():
    layout = plan_layout((1, 4, 8, 8))
    assert defaults.memory_size("auto", 3, layout, "location", (16, 32)) == 3 * 1 * 2 * 2 // 4
    assert defaults.memory_size("auto", 10_000, layout, "location", (16, 32)) == 1000


@pytest.mark.parametrize("n", [2, 100, 1000, 20_000, 10**7])
@pytest.mark.parametrize("array_shape, most", [((6,), 1024), ((28, 28), 128), ((1, 8, 16, 16), 128)])
def test_batches_and_epochs_stay_in_their_bounds(n, array_shape, most):
    layout = plan_layout(array_shape)
    batch_size = defaults.batch_size("auto", n, layout)
    epochs = defaults.max_epochs("auto", n, batch_size, layout)
    assert 32 <= batch_size <= most and 20 <= epochs <= 200
    assert defaults.batch_size(5, n, layout) == 5 and defaults.max_epochs(3, n, 5, layout) == 3


def test_batches_of_large_samples_are_small():
    sizes = [defaults.batch_size("auto", 10_000, plan_layout(shape)) for shape in ((1, 9, 60, 90), (1, 16, 256, 256))]
    assert sizes == [2**20 // (9 * 60 * 90), 8]


@pytest.mark.parametrize(
    "array_shape, expected",
    [
        ((6,), ("log", "combined", 0.05, 4)),
        ((28, 28), ("contrast", "smooth", 0.01, 1)),
        ((3, 3), ("standard", "smooth", 0.01, 1)),
        ((1, 8, 16, 16), ("standard", "relative", 0.05, 1)),
    ],
)
def test_each_kind_of_data_has_its_defaults(array_shape, expected):
    functions = (defaults.scaling, defaults.anomaly_score, defaults.temperature, defaults.ensemble_size)
    layout = plan_layout(array_shape)
    assert tuple(function("auto", layout) for function in functions) == expected
    given = (None, "reconstruction", 1.0, 2)
    assert tuple(function(value, layout) for function, value in zip(functions, given, strict=True)) == given


@pytest.mark.parametrize("code, heads", [(3, 1), (15, 1), (16, 2), (17, 1), (18, 2), (24, 3), (32, 4)])
def test_wide_codes_of_large_tables_have_several_heads(code, heads):
    table, images = plan_layout((2 * code,)), plan_layout((28, 28))
    assert defaults.memory_heads("auto", 10_000, table, (64, code)) == heads
    assert defaults.memory_heads("auto", 9_999, table, (64, code)) == 1
    assert defaults.memory_heads("auto", 10_000, images, (16, code)) == 1
    assert defaults.memory_heads("auto", 10_000, table, None) == 1
