"""What parameters accept, and what their "auto" comes to."""

import numpy as np
import pytest

from skmemae import MemAEDetector, presets
from skmemae._data.layout import choose_layout
from skmemae._defaults import CONSTRAINTS, EARLY, LATE, check_fit, check_values, decide, resolve

NAMES = (*EARLY, *LATE)
SAMPLE, ROWS, NONE = {"memory_unit": "sample"}, ("row", "log"), {"memory_size": 0}
OF_ROWS = (1, "distance", 0.1)
TABLE, IMAGE, CLIP = (1, "cosine", 0.05), (1, "cosine", 0.01), (1, "cosine", 0.05)
NO_MEMORY = (None, None, None)

# Shape, samples, parameters; memory_unit, scaling, thins_copies, anomaly_score, widths, memory_size; memory_heads, similarity,
# temperature; ensemble_size, learning_rate, batch_size, max_epochs, validation_fraction.
# fmt: off
CASES = [
    ((1,),              2,         {},                     (*ROWS, False, "power", (2,), 2, *OF_ROWS, 16, 5e-3, 64, 80, 0.0)),
    ((6,),              40,        {},                     (*ROWS, False, "power-subsets", (6,), 40, *OF_ROWS, 16, 5e-3, 64, 80, 0.0)),
    ((6,),              300,       {},                     (*ROWS, False, "power-subsets", (6,), 300, *OF_ROWS, 13, 5e-3, 64, 16, 0.0)),
    ((6,),              1000,      {},                     (*ROWS, False, "power-subsets", (6,), 1000, *OF_ROWS, 4, 5e-3, 64, 5, 0.0)),
    ((20,),             3000,      {},                     (*ROWS, False, "power-subsets", (16,), 3000, *OF_ROWS, 2, 5e-3, 64, 2, 0.0)),
    ((100,),            10_000,    {},                     (*ROWS, False, "power-subsets", (32,), 8000, *OF_ROWS, 1, 5e-3, 125, 1, 0.0)),
    ((1000,),           10_000,    {},                     (*ROWS, False, "power-subsets", (32,), 1048, *OF_ROWS, 1, 5e-3, 125, 1, 0.0)),
    ((20_000,),         200,       {},                     (*ROWS, False, "power-subsets", (32,), 100, *OF_ROWS, 16, 5e-3, 64, 20, 0.0)),
    ((6,),              10**6,     {},                     (*ROWS, False, "power-subsets", (6,), 8000, *OF_ROWS, 1, 5e-3, 256, 1, 0.0)),
    ((5, 3),            1000,      {},                     (*ROWS, False, "power-subsets", (15,), 1000, *OF_ROWS, 4, 5e-3, 64, 5, 0.0)),
    ((6,),              300,       {"contamination": 1e-3}, (*ROWS, True, "power", (6,), 300, *OF_ROWS, 13, 5e-3, 64, 16, 0.0)),
    ((6,),              300,       {"contamination": 0.01}, (*ROWS, True, "power-subsets", (6,), 300, *OF_ROWS, 13, 5e-3, 64, 16, 0.0)),
    ((6,),              300,       {"contamination": "auto"}, (*ROWS, False, "power-subsets", (6,), 300, *OF_ROWS, 13, 5e-3, 64, 16, 0.0)),
    ((6,),              300,       NONE,                   (None, "log", False, "power", (3,), 0, *NO_MEMORY, 13, 5e-3, 64, 16, 0.0)),
    ((40,),             300,       NONE,                   (None, "log", False, "power", (20,), 0, *NO_MEMORY, 13, 5e-3, 64, 16, 0.0)),
    ((6,),              300,       {"memory_size": 500, "batch_size": 1000},
                                                           (*ROWS, False, "power-subsets", (6,), 300, *OF_ROWS, 13, 5e-3, 300, 80, 0.0)),
    ((6,),              300,       SAMPLE,                 ("sample", "log", True, "absolute-query", (64, 3), 75, *TABLE, 4, 2e-3, 32, 200, 0.1)),
    ((48,),             9_999,     SAMPLE,                 ("sample", "log", True, "absolute-query", (64, 24), 100, *TABLE, 4, 2e-3, 512, 102, 0.1)),
    ((48,),             10_000,    SAMPLE,                 ("sample", "log", True, "absolute-query", (64, 24), 100, 3, *TABLE[1:], 4, 2e-3, 512, 102, 0.1)),
    ((120,),            20_000,    SAMPLE,                 ("sample", "log", True, "absolute-query", (64, 32), 100, 4, *TABLE[1:], 4, 2e-3, 1024, 102, 0.1)),
    ((60,),             10_000,    SAMPLE | {"widths": [64, 30]},
                                                           ("sample", "log", True, "absolute-query", (64, 30), 100, 3, *TABLE[1:], 4, 2e-3, 512, 102, 0.1)),
    ((6,),              300,       SAMPLE | NONE,          (None, "log", True, "absolute", (64, 3), 0, *NO_MEMORY, 4, 2e-3, 32, 200, 0.1)),
    ((8,),              20_000,    {"backbone": max},      ("sample", "log", True, "absolute-query", (64, 4), 100, *TABLE, 4, 2e-3, 1024, 102, 0.1)),
    ((1, 3, 3),         300,       {},                     ("sample", "standard", False, "smooth-turns", (16, 4), 75, *IMAGE, 1, 2e-3, 32, 85, 0.1)),
    ((8, 8),            40,        {},                     ("sample", "contrast", False, "smooth-turns", (16, 32), 10, *IMAGE, 1, 2e-3, 32, 200, 0.1)),
    ((28, 28),          3000,      {},                     ("sample", "contrast", False, "smooth-turns", (16, 32, 64, 32), 300, *IMAGE, 1, 2e-3, 128, 34, 0.1)),
    ((28, 28),          100_000,   {},                     ("sample", "contrast", False, "smooth-turns", (16, 32, 64, 32), 500, *IMAGE, 1, 2e-3, 128, 20, 0.1)),
    ((3, 32, 32),       30_000,    {},                     ("sample", "contrast", False, "smooth-turns", (16, 32, 64, 32), 500, *IMAGE, 1, 2e-3, 128, 20, 0.1)),
    ((28, 28),          3000,      NONE,                   (None, "contrast", False, "smooth", (16, 32, 64, 32), 0, *NO_MEMORY, 1, 2e-3, 128, 34, 0.1)),
    ((32, 32, 3),       300,       {"memory_unit": "location"},
                                                           ("location", "contrast", False, "smooth-turns", (16, 32, 64), 1000, *IMAGE, 1, 2e-3, 32, 85, 0.1)),
    ((1, 4, 8, 8),      3,         {},                     ("location", "standard", False, "relative-turns", (16,), 24, *CLIP, 1, 2e-3, 32, 200, 0.1)),
    ((1, 8, 16, 16),    100,       {},                     ("location", "standard", False, "relative-turns", (16, 32), 800, *CLIP, 1, 2e-3, 32, 200, 0.1)),
    ((1, 9, 60, 90),    10_000,    {},                     ("location", "standard", False, "relative-turns", (16, 32, 64, 64), 1000, *CLIP, 1, 2e-3, 21, 20, 0.1)),
    ((1, 16, 256, 256), 10_000,    {},                     ("location", "standard", False, "relative-turns", (16, 32, 64, 64), 1000, *CLIP, 1, 2e-3, 8, 20, 0.1)),
    ((1, 8, 16, 16),    100,       NONE,                   (None, "standard", False, "relative", (16, 32), 0, *NO_MEMORY, 1, 2e-3, 32, 200, 0.1)),
    ((1, 8, 16, 16),    100,       SAMPLE,                 ("sample", "standard", False, "relative-turns", (16, 32, 32), 25, *CLIP, 1, 2e-3, 32, 200, 0.1)),
]
# fmt: on


def resolved(shape, n, **given):
    params = MemAEDetector(**given).get_params(deep=False)
    layout = choose_layout(shape, params["backbone"])
    check_values(params)
    check_fit(params, layout)
    return resolve(decide(params, layout, n), layout, n)


@pytest.mark.parametrize("shape, n, given, expected", CASES, ids=[f"{case[0]} x {case[1]} {case[2]}" for case in CASES])
def test_the_defaults_of_each_kind_of_data(shape, n, given, expected):
    assert {name: resolved(shape, n, **given)[name] for name in NAMES} == dict(zip(NAMES, expected, strict=True))


def test_what_is_given_stays():
    given = {"widths": (9, 4), "temperature": 1, "ensemble_size": 3, "scaling": None, "similarity": "dot", "memory_size": 7}
    given |= {"anomaly_score": "relative", "batch_size": 10, "max_epochs": 7, "shrink_threshold": 2, "learning_rate": 0.5}
    given |= {"validation_fraction": 0.3, "entropy_weight": 0}
    for unit in ("row", "sample"):
        assert resolved((6,), 1000, **given, memory_unit=unit).items() >= given.items()
    assert resolved((6,), 1000, widths=[np.int64(7), 5])["widths"] == (7, 5)


def test_a_batch_has_no_more_samples_than_there_are():
    sizes = [resolved((6,), n, batch_size=10, memory_unit=unit)["batch_size"] for n in (2, 5, 50) for unit in ("row", "sample")]
    assert sizes == [2, 2, 5, 5, 10, 10]


@pytest.mark.parametrize("shape", [(6,), (28, 28), (1, 8, 16, 16)])
@pytest.mark.parametrize("given", [{}, {"memory_size": 0}])
def test_nothing_is_left_open_but_what_the_layout_and_the_machine_say(shape, given):
    params = resolved(shape, 1000, **given)
    assert {name for name, value in params.items() if isinstance(value, str) and value == "auto"} == {"channel_axis", "device"}
    assert set(params) >= set(MemAEDetector().get_params(deep=False))


@pytest.mark.parametrize(
    "shape, params, message",
    [
        ((6,), {"memory_unit": "location"}, "memory_unit='location' needs a feature map"),
        ((8, 8), {"memory_unit": "row"}, "memory_unit='row' needs backbone='fc'"),
        ((6,), {"memory_unit": "row", "backbone": max}, "memory_unit='row' needs backbone='fc'"),
        ((6,), {"anomaly_score": "smooth"}, "anomaly_score='smooth' needs images or clips"),
        ((6,), {"anomaly_score": "local"}, "anomaly_score='local' needs images or clips"),
        ((6,), {"anomaly_score": "absolute-turns"}, "anomaly_score='absolute-turns' needs images or clips"),
        ((6,), {"anomaly_score": "local-paces"}, "anomaly_score='local-paces' needs clips of at least 3 frames"),
        ((28, 28), {"anomaly_score": "local-paces"}, "needs clips of at least 3 frames; got samples of .1, 28, 28."),
        ((1, 2, 16, 16), {"anomaly_score": "local-paces"}, "needs clips of at least 3 frames; got samples of .1, 2, 16, 16."),
        ((6,), {"anomaly_score": "absolute-query"}, "anomaly_score='absolute-query' needs learned memory items"),
        ((8, 8), {"anomaly_score": "absolute-query", "memory_size": 0}, "needs learned memory items"),
        ((8, 8), {"anomaly_score": "power-subsets"}, "anomaly_score='power-subsets' needs a memory of rows"),
        ((6,), {"anomaly_score": "power-subsets", "memory_size": 0}, "needs a memory of rows"),
        ((6,), {"anomaly_score": "power-subsets", "memory_unit": "sample"}, "needs a memory of rows"),
        ((6,), {"anomaly_score": "power-"}, "'anomaly_score' parameter of MemAEDetector must be 'auto' or one of .*'power-'"),
        ((6,), {"anomaly_score": "power-subsets-query"}, "'anomaly_score' parameter"),
        ((6,), {"anomaly_score": "combined"}, "'anomaly_score' parameter"),
        ((8, 8), {"widths": (4,)}, "at least 2 positive int"),
        ((6,), {"widths": (4, True)}, "tuple of positive int"),
        ((6,), {"widths": ()}, "tuple of positive int"),
    ],
)
def test_values_that_do_not_fit_each_other_or_the_data_are_named(shape, params, message):
    with pytest.raises(ValueError, match=message):
        resolved(shape, 100, **params)


@pytest.mark.parametrize(
    "shape, params",
    [
        ((1, 3, 16, 16), {"anomaly_score": "local-paces"}),
        ((8, 8), {"anomaly_score": "local-turns", "memory_size": 0}),
        ((8, 8), {"anomaly_score": "smooth-query"}),
        ((6,), {"anomaly_score": "power-query", "backbone": max}),
        ((8, 8), {"widths": (4,), "memory_unit": "location"}),
        ((6,), {"widths": (4,)}),
        ((3, 16, 16), {"memory_unit": "location", "backbone": max}),
        ((6,), presets.paper("kddcup99")),
    ],
)
def test_values_that_fit_are_taken_as_they_are(shape, params):
    given = {name: value for name, value in params.items() if value not in (None, "auto")}
    assert resolved(shape, 100, **params).items() >= given.items()


def test_every_parameter_has_a_constraint():
    assert set(CONSTRAINTS) == set(MemAEDetector().get_params())
