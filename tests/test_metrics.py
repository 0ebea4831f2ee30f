"""Scorers under both conventions and both codings of y."""

import numpy as np
import pytest
from scipy.ndimage import label
from scipy.sparse import csr_matrix
from sklearn.ensemble import IsolationForest
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skmemae import MemAEDetector, metrics


@pytest.mark.parametrize("scorer", [metrics.roc_auc, metrics.average_precision, metrics.precision_at_n])
def test_a_scorer_says_the_same_under_every_pairing(table, scorer):
    X, y = table
    det = MemAEDetector(max_epochs=30, random_state=0).fit(X)
    found = {
        scorer(det.set_params(convention=convention), X, coded)
        for convention in ("pyod", "sklearn")
        for coded in (y, 1 - 2 * y)
    }
    assert len(found) == 1 and 0.7 < found.pop() <= 1
    assert scorer(IsolationForest(random_state=0).fit(X), X, y) > 0.9


@pytest.mark.parametrize("y", [[0, 1, 2], [1, 1, 1], ["a", "b", "a"], [-1, 0, 1]])
def test_labels_that_could_mean_anything_are_refused(y):
    with pytest.raises(ValueError, match="y must hold 0 and 1"):
        metrics.is_outlier(y)


def test_labels_without_outliers_are_fine():
    assert not metrics.is_outlier([0, 0]).any()
    assert metrics.is_outlier(np.array([-1, 1])).tolist() == [True, False]


def test_separation_sees_what_a_detector_knows_of_dependent_columns(rng):
    factors = rng.normal(size=(600, 2))
    X = factors @ rng.normal(size=(2, 8)) + 0.1 * rng.normal(size=(600, 8))
    X[:20] += 50  # medians and quartiles take no notice
    fitted = MemAEDetector(max_epochs=20, random_state=0).fit(X[:400])
    blind = MemAEDetector(max_epochs=1, memory_size=0, random_state=0).fit(X[:400])
    found = metrics.separation(fitted, X[400:])
    assert found > metrics.separation(blind, X[400:]) + 0.5
    assert found == metrics.separation(fitted, X[400:])
    assert metrics.separation(fitted.set_params(convention="sklearn"), X[400:]) == found
    assert abs(metrics.separation(fitted, rng.normal(size=(300, 8)) * 20)) < 0.5  # nothing depends on anything


def test_separation_takes_frames_and_pipelines(rng):
    pandas, polars = pytest.importorskip("pandas"), pytest.importorskip("polars")
    values = rng.normal(size=(60, 3)) @ rng.normal(size=(3, 3))
    fitted = make_pipeline(StandardScaler(), MemAEDetector(max_epochs=2, random_state=0)).fit(values)
    expected = metrics.separation(fitted, values)
    names = ["a", "b", "c"]
    for frame in (pandas.DataFrame(values, columns=names, index=range(5, 65)), polars.DataFrame(values, schema=names)):
        framed = make_pipeline(StandardScaler(), MemAEDetector(max_epochs=2, random_state=0)).fit(frame)
        assert metrics.separation(framed, frame) == pytest.approx(expected, rel=1e-5)


def test_shuffled_columns_keep_names_types_and_values(rng):
    pandas = pytest.importorskip("pandas")
    X = pandas.DataFrame(rng.normal(size=(30, 2)), index=range(5, 35)).assign(c=pandas.Categorical(["x", "y"] * 15))
    X.columns = ["a", "a", "c"]
    shuffled = metrics._shuffled_columns(X, rng)
    assert shuffled.index.equals(X.index) and shuffled.columns.equals(X.columns) and shuffled.dtypes.equals(X.dtypes)
    for i in range(3):
        assert shuffled.iloc[:, i].tolist() != X.iloc[:, i].tolist()
        assert sorted(shuffled.iloc[:, i]) == sorted(X.iloc[:, i])


def test_shuffled_columns_of_polars_keep_names_types_and_values(rng):
    polars = pytest.importorskip("polars")
    X = polars.DataFrame({"a": rng.normal(size=30), "b": ["x", "y"] * 15})
    shuffled = metrics._shuffled_columns(X, rng)
    assert shuffled.schema == X.schema
    for name in X.columns:
        assert shuffled[name].to_list() != X[name].to_list()
        assert sorted(shuffled[name]) == sorted(X[name])


def test_shuffled_columns_have_orders_of_their_own(rng):
    X = np.arange(60).reshape(30, 2)
    shuffled = metrics._shuffled_columns(X, rng)
    np.testing.assert_array_equal(np.sort(shuffled, axis=0), X)
    assert (shuffled[:, 1] != shuffled[:, 0] + 1).any()


def test_separation_is_for_tables(rng):
    X = rng.random((20, 8, 8))
    with pytest.raises(ValueError, match=r"needs a table .* Got X of shape \(20, 8, 8\)"):
        metrics.separation(MemAEDetector(max_epochs=1, random_state=0).fit(X), X)


def test_pixels_are_ranked_over_all_videos(rng):
    masks = [rng.uniform(size=(4, 5, 6)) > 0.8 for _ in range(2)]
    assert metrics.pixel_roc_auc([m * 1.0 for m in masks], masks) == 1
    assert metrics.pixel_roc_auc([1.0 - m for m in masks], masks) == 0
    with pytest.raises(ValueError, match=r"Video 1 has a map of shape \(3, 5, 6\)"):
        metrics.pixel_roc_auc([masks[0], masks[1][:3]], masks)


def test_with_one_class_there_is_no_area(table):
    X, _ = table
    det, zeros = MemAEDetector(max_epochs=1, random_state=0).fit(X), np.zeros(len(X))
    with pytest.warns(UserWarning, match="one class|No positive"):
        assert np.isnan(metrics.roc_auc(det, X, zeros))
    with pytest.warns(UserWarning, match="No positive"):
        assert metrics.average_precision(det, X, zeros) == 0
    assert np.isnan(metrics.precision_at_n(det, X, zeros))
    masks = [np.zeros((2, 3, 3))]
    with pytest.warns(UserWarning, match="one class|No positive"):
        assert np.isnan(metrics.pixel_roc_auc(masks, masks))
    with pytest.raises(ValueError, match="maps and masks"):
        metrics.pixel_roc_auc(masks * 2, masks)


def test_separation_of_a_sparse_matrix_says_what_it_needs(table):
    X, _ = table
    det = MemAEDetector(max_epochs=1, random_state=0).fit(X)
    with pytest.raises(ValueError, match="separation needs a table .* Got a sparse matrix"):
        metrics.separation(det, csr_matrix(X))


def slow_aupro(maps, masks, limit):
    """The area threshold by threshold, as the definition says."""
    regions = [
        (i, found == k) for i, m in enumerate(masks) for found, n in [label(m, np.ones((3, 3)))] for k in range(1, n + 1)
    ]
    points = [(0.0, 0.0)]
    for threshold in np.unique(maps)[::-1]:
        above = maps >= threshold
        overlap = np.mean([above[i][region].mean() for i, region in regions])
        points.append((above[masks == 0].mean(), overlap))
    area = 0.0
    for (x0, y0), (x1, y1) in zip(points[:-1], points[1:], strict=True):
        if x0 < limit:
            end = min(x1, limit)
            y_end = y1 if x1 == x0 else y0 + (y1 - y0) * (end - x0) / (x1 - x0)
            area += (end - x0) * (y0 + y_end) / 2
    return area / limit


@pytest.mark.parametrize("limit", [0.05, 0.3, 1.0])
@pytest.mark.parametrize("decimals", [1, 6])
def test_the_overlap_of_regions_is_that_of_its_definition(rng, limit, decimals):
    masks = rng.uniform(size=(3, 10, 12)) > 0.85
    maps = (rng.normal(size=masks.shape) + masks).round(decimals)  # rounded ones have many equal values
    assert metrics.aupro(maps, masks, limit) == pytest.approx(slow_aupro(maps, masks, limit), abs=1e-12)
    assert metrics.aupro(list(maps), list(255 * masks.astype(np.uint8)), limit) == metrics.aupro(maps, masks, limit)


def test_every_region_counts_the_same_in_the_overlap():
    mask = np.zeros((20, 20), dtype=int)
    mask[:10, :10], mask[15, 15] = 1, 1
    assert metrics.aupro([mask], [mask]) == 1 and metrics.aupro([1 - mask], [mask]) == 0
    large = mask.copy()
    large[15, 15] = 0
    small = mask - large
    found = [metrics.aupro([part], [mask], limit=1e-9) for part in (large, small)]
    np.testing.assert_allclose(found, 0.5, atol=1e-6)
    rng = np.random.default_rng(0)
    assert abs(metrics.aupro(rng.normal(size=(50, 20, 20)), [mask] * 50) - 0.15) < 0.03
    corners = np.zeros((4, 4))
    corners[1, 1] = corners[2, 2] = corners[3, 3] = 1  # one region, so a third of it is found
    only = np.zeros((4, 4))
    only[1, 1] = 1
    assert metrics.aupro([only], [corners], limit=1e-9) == pytest.approx(1 / 3)


def test_masks_and_maps_that_do_not_fit_are_named(rng):
    maps, mask = rng.normal(size=(2, 4, 5)), np.eye(4, 5)
    with pytest.raises(ValueError, match="as many maps and masks, at least one. Got 2 and 1"):
        metrics.aupro(maps, [mask])
    with pytest.raises(ValueError, match=r"Image 1 has a map of shape \(4, 5\) and a mask of shape \(3, 5\)"):
        metrics.aupro(maps, [mask, mask[:3]])
    with pytest.raises(ValueError, match=r"must be images \(H, W\). Image 0"):
        metrics.aupro([maps], [[mask, mask]])
    for bad, n in ((0 * mask, 1), (0 * mask + 1, 1), (mask + np.eye(4, 5, 1) * 2, 3)):
        with pytest.raises(ValueError, match=f"'masks' parameter of aupro must hold 0 .* Got {n} values"):
            metrics.aupro(maps, [bad, bad])
    with pytest.raises(ValueError, match="'masks' parameter of aupro"):
        metrics.aupro([mask, mask], maps)  # in the wrong order
    with pytest.raises(ValueError, match="'maps' parameter of aupro must hold finite numbers"):
        metrics.aupro(maps * np.nan, [mask, mask])
    for limit in (0, 1.5, True, "0.3", np.nan):
        with pytest.raises(ValueError, match="'limit' parameter of aupro must be a float"):
            metrics.aupro(maps, [mask, mask], limit)
