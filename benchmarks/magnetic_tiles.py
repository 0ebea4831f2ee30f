"""Flaws of surfaces: magnetic tiles with blowholes, cracks and frayed edges, trained on tiles without flaws.

Neighbouring photographs of the data show the same tile. Three quarters of the photographs without flaws, whole tiles, are the
training set; the others and all flawed ones are the test set. Splits differ between seeds. Each kind of flaw is compared with
the normal test images. Settings were chosen on "Blowhole"; "Crack" and "Fray" test them. ± is the standard error over splits.

"roc_auc" is of images, "pixel" the ROC AUC of pixels, "aupro" the area under the per-region overlap curve up to 30 % false
alarms. MemAE's map is ``p_value_map``; the maps of the others are smoothed by the same Gaussian. "flagged_normal" is the share
of normal test images above the threshold, which should be a tenth, the default ``contamination``.

"MemAE, turns" is ``anomaly_score="smooth-turns"``, which is for objects, "MemAE, error alone" is "smooth", and "no memory,
patches" has local features and an autoencoder. "nearest image" and "PCA" see averages of 2 x 2 pixels, each image with mean 0
and deviation 1. "LoG" is the largest Laplacian of a Gaussian, in deviations from the mean at the same place of training images.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import torch
from scipy.ndimage import gaussian_filter, gaussian_laplace
from scipy.spatial.distance import cdist
from sklearn.base import BaseEstimator
from sklearn.decomposition import PCA
from sklearn.metrics import roc_auc_score
from sklearn.preprocessing import scale
from sklearn.utils import Bunch
from tqdm.auto import tqdm

from shared import cells
from shared.detectors import ERROR_ALONE
from skmemae import MemAEDetector
from skmemae.benchmark import report, store
from skmemae.benchmark.command import make_parser
from skmemae.benchmark.detectors import OURS, WITHOUT, Makers
from skmemae.datasets.published import absent, check_digest
from skmemae.metrics import aupro, pixel_roc_auc

NAME = "magnetic-tiles"
KINDS = ("Blowhole", "Crack", "Fray")
COLUMNS = {
    "roc_auc": "±e.3f",
    "pixel": "±e.3f",
    "aupro": "±e.3f",
    "flagged_normal": "±e.3f",
    "fit_seconds": ".1f",
    "score_seconds": ".2f",
}
ABOUT_PUBLISHED = """Published ROC AUC of images, all kinds of flaws together. Their splits are random, which puts photographs
of the same tile on both sides: the nearest image alone has about .91 then."""
PUBLISHED = {
    "DifferNet (pretrained network)": 0.977,
    "1-NN of features of a pretrained network": 0.800,
    "GANomaly": 0.766,
    "GeoTrans": 0.755,
}
_DIGEST = "6331e43269e044bd8001a999a6bb3d5800c9483985e6e5f3ad318e1f467832e8"
_ADDRESS = "https://github.com/abin24/Magnetic-tile-defect-datasets"
_SMOOTHING = 1 / 32  # deviation of the Gaussian of maps in sides of an image, as that of p_value_map
_LOG = 1.0  # pixels, deviation of the Gaussian of "LoG": of 1, 2 and 3 the best for blowholes
Maps = Callable[[np.ndarray], np.ndarray]


class NearestImage(BaseEstimator):
    """Distance from the nearest training image; the map is the squared difference from it."""

    def fit(self, X: np.ndarray) -> "NearestImage":
        """Keep the images."""
        self.rows_ = small_rows(X)
        return self

    def decision_function(self, X: np.ndarray) -> np.ndarray:
        """Distances, higher = more abnormal."""
        return cdist(small_rows(X), self.rows_).min(axis=1)

    def maps(self, X: np.ndarray) -> np.ndarray:
        """Squared differences: (n, H, W)."""
        rows = small_rows(X)
        return as_maps((rows - self.rows_[cdist(rows, self.rows_).argmin(axis=1)]) ** 2, X)


class ErrorOfPCA(BaseEstimator):
    """Squared residuals of the components that explain 90 % of the variance."""

    def fit(self, X: np.ndarray) -> "ErrorOfPCA":
        """Fit the components."""
        self.pca_ = PCA(n_components=0.9, svd_solver="full").fit(small_rows(X))
        return self

    def decision_function(self, X: np.ndarray) -> np.ndarray:
        """Squared errors, higher = more abnormal."""
        return self._residuals(X).sum(axis=1)

    def maps(self, X: np.ndarray) -> np.ndarray:
        """Squared residuals: (n, H, W)."""
        return as_maps(self._residuals(X), X)

    def _residuals(self, X: np.ndarray) -> np.ndarray:
        rows = small_rows(X)
        return (rows - self.pca_.inverse_transform(self.pca_.transform(rows))) ** 2


class LargestLaplacian(BaseEstimator):
    """Absolute Laplacian of a Gaussian, in deviations from its mean at the same place of training images."""

    def fit(self, X: np.ndarray) -> "LargestLaplacian":
        """Learn the mean and the deviation of each place."""
        filtered = self._filtered(X)
        self.mean_, self.deviation_ = filtered.mean(axis=0), filtered.std(axis=0) + 1e-6
        return self

    def decision_function(self, X: np.ndarray) -> np.ndarray:
        """The largest of each image, higher = more abnormal."""
        return self._deviations(X).max(axis=(1, 2))

    def maps(self, X: np.ndarray) -> np.ndarray:
        """Deviations: (n, H, W)."""
        return smoothed(self._deviations(X))

    def _deviations(self, X: np.ndarray) -> np.ndarray:
        return (self._filtered(X) - self.mean_) / self.deviation_

    @staticmethod
    def _filtered(X: np.ndarray) -> np.ndarray:
        contrast = scale(X.reshape(len(X), -1).astype(np.float64), axis=1).reshape(X.shape)
        return np.abs(gaussian_laplace(contrast, (0, _LOG, _LOG)))


def small_rows(X: np.ndarray) -> np.ndarray:
    """Averages of 2 x 2 pixels of each image, with mean 0 and deviation 1: (n, H, W) -> (n, H * W / 4)."""
    n, height, width = X.shape
    averages = X.reshape(n, height // 2, 2, width // 2, 2).mean(axis=(2, 4), dtype=np.float64)
    return scale(averages.reshape(n, -1), axis=1)


def as_maps(rows: np.ndarray, X: np.ndarray) -> np.ndarray:
    """Rows of numbers of 2 x 2 pixels as smoothed maps of the images' shape."""
    n, height, width = X.shape
    maps = rows.reshape(n, height // 2, width // 2)
    return smoothed(maps.repeat(2, axis=1).repeat(2, axis=2))


def smoothed(maps: np.ndarray) -> np.ndarray:
    """Maps after a Gaussian blur."""
    sigma = _SMOOTHING * min(maps.shape[1:])
    return gaussian_filter(maps, (0, sigma, sigma))


def main(argv: Sequence[str] | None = None) -> None:
    """Run all detectors on all splits, print a table for each kind of flaw, and write the rows.

    Rows are kept after each fit; a second run goes on where the first one stopped.
    """
    parser = make_parser("python benchmarks/magnetic_tiles.py", __doc__, seeds=3)
    parser.add_argument("--data-home", metavar="DIR", help="folder with magnetic_tiles.npz")
    parser.add_argument("--detectors", nargs="+", metavar="NAME", help="only these detectors")
    args = parser.parse_args(argv)
    names = cells.selected("--detectors", args.detectors, makers(0))
    try:
        dataset = load(args.data_home)
    except OSError as error:
        raise SystemExit(str(error)) from error
    rows = run(dataset, [(seed, name) for seed in range(args.seeds) for name in names], args.out)
    for kind, group in report.grouped(rows, "data").items():
        print(f"\n{kind}\n" + report.table(group, "detector", COLUMNS))
    print(f"\n{ABOUT_PUBLISHED}\n{report.align(published_lines())}")


def run(dataset: Bunch, fits: list[tuple[int, str]], folder: str) -> report.Rows:
    """Rows of the fits of seeds and detectors; those that the folder lacks are measured and added to it."""
    rows = store.read(folder, NAME)
    for seed, name in tqdm(fits, desc=NAME, unit="fit"):
        if not any((row["seed"], row["detector"]) == (seed, name) for row in rows):
            rows += measure(name, seed, split_tiles(dataset, seed))
            save(rows, folder)
    return [row for row in rows if (row["seed"], row["detector"]) in fits]


def load(data_home: str | None) -> Bunch:
    """Read the magnetic tiles from ``magnetic_tiles.npz``.

    Parameters
    ----------
    data_home : str or None
        Folder of the file: ``images`` (n, 128, 128), uint8, ``kind``, "Free" for those without flaws, ``tile``, the number of
        the tile, and ``masks``, the bits of the flawed pixels.

    Returns
    -------
    dataset : Bunch
        ``data``, ``kind``, ``tile``, and ``masks`` (n, 128, 128), bool.

    Raises
    ------
    OSError
        If there is no file.
    ValueError
        If it is not the expected file.
    """
    if data_home is None or not (path := Path(data_home) / "magnetic_tiles.npz").is_file():
        raise FileNotFoundError(f"{absent(data_home, 'magnetic_tiles.npz')}. The photographs are at {_ADDRESS}.")
    with np.load(path, allow_pickle=False) as file:
        X, kind, tile, packed = (file[key] for key in ("images", "kind", "tile", "masks"))
    check_digest(path, _DIGEST, X.tobytes(), tile.tobytes(), packed.tobytes())
    masks = np.unpackbits(packed, axis=1, count=X[0].size).reshape(X.shape).astype(bool)
    return Bunch(data=X, kind=kind, tile=tile, masks=masks)


def split_tiles(dataset: Bunch, seed: int) -> Bunch:
    """Three quarters of the images without flaws, whole tiles, to train on; the others and all flawed ones to test on.

    Returns
    -------
    split : Bunch
        ``X_train``, ``X_test``, and ``kind`` and ``masks`` of the test images.
    """
    free = dataset.kind == "Free"
    tiles, counts = np.unique(dataset.tile[free], return_counts=True)
    order = np.random.default_rng(seed).permutation(len(tiles))
    enough = np.searchsorted(counts[order].cumsum(), 0.75 * free.sum()) + 1
    train = free & np.isin(dataset.tile, tiles[order[:enough]])
    return Bunch(
        X_train=dataset.data[train], X_test=dataset.data[~train], kind=dataset.kind[~train], masks=dataset.masks[~train]
    )


def makers(seed: int) -> Makers:
    """Functions that create unfitted detectors, by name."""
    ours = partial(MemAEDetector, random_state=seed)
    return {
        OURS: ours,
        "MemAE, turns": partial(ours, anomaly_score="smooth-turns"),
        ERROR_ALONE: partial(ours, anomaly_score="smooth"),
        f"{WITHOUT}, patches": partial(ours, memory_size=0, anomaly_score="smooth-patches"),
        "nearest image": NearestImage,
        "PCA": ErrorOfPCA,
        "LoG": LargestLaplacian,
    }


def measure(name: str, seed: int, split: Bunch) -> Iterator[dict[str, Any]]:
    """Fit once; a row for each kind of flaw."""
    detector = makers(seed)[name]()
    start = perf_counter()
    detector.fit(split.X_train)
    fitted = perf_counter()
    scores = detector.decision_function(split.X_test)
    seconds = {"fit_seconds": fitted - start, "score_seconds": perf_counter() - fitted}
    maps = detector.maps(split.X_test) if hasattr(detector, "maps") else -detector.p_value_map(split.X_test)
    normal, threshold = split.kind == "Free", getattr(detector, "threshold_", np.nan)
    flagged = float((scores[normal] > threshold).mean()) if np.isfinite(threshold) else float("nan")
    for kind in KINDS:
        flawed = split.kind == kind
        shown = normal | flawed
        yield {
            "data": kind,
            "task": "",
            "seed": seed,
            "detector": name,
            "roc_auc": float(roc_auc_score(flawed[shown], scores[shown])),
            "pixel": pixel_roc_auc(maps[shown], split.masks[shown]),
            "aupro": aupro(maps[shown], split.masks[shown], limit=0.3),
            "flagged_normal": flagged,
            **seconds,
        }


def published_lines() -> list[list[str]]:
    """Cells of the table of published numbers; the first line holds the titles."""
    return [["detector", "roc_auc"], *[[name, format(value, ".3f")] for name, value in PUBLISHED.items()]]


def save(rows: report.Rows, folder: str) -> None:
    """Write the rows, and today's versions and the parameters of the detectors."""
    store.save(rows, folder, NAME)
    today = {**store.environment(), "threads": torch.get_num_threads()}
    described = {name: cells.describe(make()) for name, make in makers(0).items()}
    store.write_versions(folder, NAME, {"made_with": [today], "detectors": described})


if __name__ == "__main__":
    main()
