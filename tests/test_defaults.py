"""What parameters accept, and what their "auto" comes to."""

import numpy as np
import pytest

from skmemae import MemAEDetector, presets
from skmemae._data.layout import choose_layout
from skmemae._defaults import (
    CONSTRAINTS,
    EARLY,
    LATE,
    check_fit,
    check_values,
    decide,
    resolve,
    share_to_leave_out,
    weight_of_outliers,
)

NAMES = (*EARLY, *LATE)
NO_MEMORY = dict.fromkeys(("memory_unit", "memory_heads", "similarity", "temperature"))


def kind(*constant):
    """A function from what differs between data of a kind to the values of :data:`NAMES`, in the order of the constants."""
    names = ("memory_unit", "scaling", "similarity", "temperature", "ensemble_size", "learning_rate", "validation_fraction")
    usual = {**dict(zip(names, constant, strict=True)), "memory_heads": 1}

    def expected(anomaly_score, widths, memory_size, batch_size, max_epochs, power_of_copies, **others):
        given = {
            "anomaly_score": anomaly_score,
            "widths": widths,
            "memory_size": memory_size,
            "power_of_copies": power_of_copies,
        }
        return {**usual, **given, "batch_size": batch_size, "max_epochs": max_epochs, **others}

    return expected


rows = kind("row", "log", "distance", 0.1, None, 5e-3, 0.0)
vectors = kind("sample", "log", "cosine", 0.05, 4, 2e-3, 0.1)
images = kind("sample", "contrast", "cosine", 0.01, 1, 2e-3, 0.1)
clips = kind("location", "standard", "cosine", 0.05, 1, 2e-3, 0.1)

# Shape, samples, parameters; anomaly_score, widths, memory_size, batch_size, max_epochs, power_of_copies, what else differs.
CASES = [
    ((1,), 2, {}, rows("power-subsets", (2,), 2, 64, 80, 1.0, ensemble_size=16)),
    ((6,), 40, {}, rows("power-subsets", (6,), 40, 64, 80, 1.0, ensemble_size=16)),
    ((6,), 300, {}, rows("power-subsets", (6,), 300, 64, 16, 1.0, ensemble_size=13)),
    ((6,), 1_000, {}, rows("power-subsets", (6,), 1000, 64, 5, 1.0, ensemble_size=4)),
    ((20,), 3_000, {}, rows("power-subsets", (16,), 3000, 64, 2, 1.0, ensemble_size=2)),
    ((100,), 10_000, {}, rows("power-subsets", (32,), 8000, 125, 1, 1.0, ensemble_size=1)),
    ((1000,), 10_000, {}, rows("power-subsets", (32,), 1048, 125, 1, 1.0, ensemble_size=1)),
    ((300,), 200, {}, rows("power-subsets", (32,), 200, 64, 20, 1.0, ensemble_size=8)),
    ((20000,), 200, {}, rows("power-subsets", (32,), 100, 64, 20, 1.0, ensemble_size=4)),
    ((6,), 1_000_000, {}, rows("power-subsets", (6,), 8000, 256, 1, 1.0, ensemble_size=1)),
    ((5, 3), 1_000, {}, rows("power-subsets", (15,), 1000, 64, 5, 1.0, ensemble_size=4)),
    ((6,), 300, {"contamination": 0.001}, rows("power-subsets", (6,), 300, 64, 16, 0.5, ensemble_size=13)),
    (
        (6,),
        300,
        {"contamination": 0.01},
        rows("power-subsets", (6,), 300, 64, 16, 0.5 + 0.5 * (0.01 - 0.001) / 0.019, ensemble_size=13),
    ),
    ((6,), 300, {"contamination": "auto"}, rows("power-subsets", (6,), 300, 64, 16, 1.0, ensemble_size=13)),
    ((6,), 300, {"memory_size": 0}, rows("power", (3,), 0, 64, 16, 1.0, ensemble_size=13, **NO_MEMORY)),
    ((40,), 300, {"memory_size": 0}, rows("power", (20,), 0, 64, 16, 1.0, ensemble_size=13, **NO_MEMORY)),
    ((6,), 300, {"memory_size": 500, "batch_size": 1000}, rows("power-subsets", (6,), 300, 300, 80, 1.0, ensemble_size=13)),
    ((6,), 300, {"memory_unit": "sample"}, vectors("absolute-query", (64, 3), 75, 32, 200, 0.5)),
    ((48,), 9_999, {"memory_unit": "sample"}, vectors("absolute-query", (64, 24), 100, 512, 102, 0.5)),
    ((48,), 10_000, {"memory_unit": "sample"}, vectors("absolute-query", (64, 24), 100, 512, 102, 0.5, memory_heads=3)),
    ((120,), 20_000, {"memory_unit": "sample"}, vectors("absolute-query", (64, 32), 100, 1024, 102, 0.5, memory_heads=4)),
    (
        (60,),
        10_000,
        {"memory_unit": "sample", "widths": [64, 30]},
        vectors("absolute-query", (64, 30), 100, 512, 102, 0.5, memory_heads=3),
    ),
    ((6,), 300, {"memory_unit": "sample", "memory_size": 0}, vectors("absolute", (64, 3), 0, 32, 200, 0.5, **NO_MEMORY)),
    ((8,), 20_000, {"backbone": max}, vectors("absolute-query", (64, 4), 100, 1024, 102, 0.5)),
    ((1, 3, 3), 300, {}, images("smooth-turns", (16, 4), 75, 32, 34, 1.0, scaling="standard")),
    ((8, 8), 40, {}, images("smooth-turns", (16, 32), 10, 32, 200, 1.0)),
    ((28, 28), 3_000, {}, images("smooth-turns", (16, 32, 64, 32), 300, 64, 12, 1.0)),
    ((28, 28), 12_000, {}, images("smooth-turns", (16, 32, 64, 32), 500, 128, 12, 1.0)),
    ((28, 28), 100_000, {}, images("smooth-turns", (16, 32, 64, 32), 500, 128, 12, 1.0)),
    ((3, 32, 32), 30_000, {}, images("smooth-turns", (16, 32, 64, 32), 500, 128, 12, 1.0)),
    ((3, 300, 300), 200, {}, images("smooth-turns", (16, 32, 64, 64, 32), 50, 32, 51, 1.0)),
    ((28, 28), 3_000, {"memory_size": 0}, images("smooth", (16, 32, 64, 32), 0, 64, 12, 1.0, **NO_MEMORY)),
    (
        (32, 32, 3),
        300,
        {"memory_unit": "location"},
        images("smooth-turns", (16, 32, 64), 1000, 32, 34, 1.0, memory_unit="location"),
    ),
    ((1, 4, 8, 8), 3, {}, clips("relative-turns", (16,), 24, 32, 200, 1.0)),
    ((1, 8, 16, 16), 100, {}, clips("relative-turns", (16, 32), 800, 32, 160, 1.0)),
    ((1, 9, 60, 90), 10_000, {}, clips("relative-turns", (16, 32, 64, 64), 1000, 21, 20, 1.0)),
    ((1, 16, 256, 256), 10_000, {}, clips("relative-turns", (16, 32, 64, 64), 1000, 8, 20, 1.0)),
    ((1, 8, 16, 16), 100, {"memory_size": 0}, clips("relative", (16, 32), 0, 32, 160, 1.0, **NO_MEMORY)),
    (
        (1, 8, 16, 16),
        100,
        {"memory_unit": "sample"},
        clips("relative-turns", (16, 32, 32), 25, 32, 160, 1.0, memory_unit="sample"),
    ),
]


def resolved(shape, n, **given):
    params = MemAEDetector(**given).get_params(deep=False)
    layout = choose_layout(shape, params["backbone"])
    check_values(params)
    check_fit(params, layout)
    return resolve(decide(params, layout, n), layout, n)


@pytest.mark.parametrize("shape, n, given, expected", CASES, ids=[f"{case[0]} x {case[1]} {case[2]}" for case in CASES])
def test_the_defaults_of_each_kind_of_data(shape, n, given, expected):
    assert {name: resolved(shape, n, **given)[name] for name in NAMES} == expected


@pytest.mark.parametrize(
    "share, weight, left_out",
    [(0.0005, 0, 0.0005), (0.001, 0, 0.001), (0.02, 1, 0.1), (0.1, 1, 0.1), (0.3, 1, 0.3)],
)
def test_what_is_left_out_follows_the_share_of_outliers(share, weight, left_out):
    assert (weight_of_outliers(share), share_to_leave_out(share)) == (weight, left_out)


def test_a_little_more_contamination_changes_little():
    shares = np.linspace(0.0001, 0.5, 5000)
    for rule, most in ((weight_of_outliers, 0.01), (share_to_leave_out, 0.001)):
        steps = np.diff([rule(share) for share in shares])
        assert (steps >= 0).all() and steps.max() < most


def test_images_of_surfaces_are_compared_by_their_patches():
    layout, params = choose_layout((28, 28)), MemAEDetector().get_params(deep=False)
    names = ("anomaly_score", "scaling")
    assert [decide(params, layout, 100, is_surface=True)[name] for name in names] == ["smooth-patches", "log-contrast"]
    assert [decide(params, layout, 100)[name] for name in names] == ["smooth-turns", "contrast"]
    assert decide({**params, "memory_size": 0}, layout, 100, is_surface=True)["anomaly_score"] == "smooth"


@pytest.mark.parametrize(
    "shape, given, pixel_size",
    [((64, 64), {}, 1), ((64, 96), {}, 1), ((3, 300, 300), {}, 5), ((90, 160), {}, 2), ((300, 300), {"backbone": max}, 1)],
)
def test_networks_of_large_images_see_averages(shape, given, pixel_size):
    assert resolved(shape, 100, **given)["pixel_size"] == pixel_size


def test_neither_clips_nor_rows_are_averaged():
    assert resolved((1, 4, 256, 256), 100)["pixel_size"] == resolved((9000,), 100)["pixel_size"] == 1


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
    left_open = {name for name, value in params.items() if isinstance(value, str) and value == "auto"}
    assert left_open == {"channel_axis", "device", "precision"}
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
        ((6,), {"anomaly_score": "smooth-patches", "backbone": max}, "anomaly_score='smooth-patches' needs images"),
        ((1, 4, 8, 8), {"anomaly_score": "local-patches"}, "anomaly_score='local-patches' needs images"),
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
        ((8, 8), {"anomaly_score": "smooth-patches", "scaling": "log-contrast", "memory_size": 0}),
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
