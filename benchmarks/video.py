"""Videos with abnormal intervals: the paper's table 2 on UCSD Ped2.

Training videos are normal; each frame of a test video gets a score. "micro" is the ROC AUC over all frames after scaling the
scores to [0, 1] within each video, as in the paper; "raw" is the same without the scaling; "macro" is the mean of the AUCs of
the videos with both normal and abnormal frames. "smoothed" is micro after a Gaussian filter over time with sigma = 3 frames.
"pixel" is the ROC AUC over all pixels, for detectors with an anomaly map. Higher = better for all of them.

"MemAE" is `presets.small_video()` on clips of differences between frames, averaged over cells, of which the smaller side has at
most 100; "MemAE, error alone" has no reference features. "no memory" has the same layers without memory and reference
features. So do the autoencoders of clips of frames ("frames, no memory") and of single frames ("single frames, no memory").
"defaults" is MemAEDetector at its defaults on clips of differences. PyOD's detectors see the differences of one frame, averaged
over squares of ten by ten cells. The paper's preset, with and without its memory, sees clips of 16 whole frames. It needs a GPU
and runs only if ``--detectors`` names it.

The anomalies of "ped2-pasted" need no label: they are pasted into three training videos (`datasets.make_pasted_anomalies`).
"""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from time import perf_counter
from typing import Any

import numpy as np
from pyod.models.iforest import IForest
from pyod.models.knn import KNN
from pyod.models.pca import PCA
from scipy.ndimage import gaussian_filter1d
from sklearn.base import BaseEstimator
from sklearn.metrics import roc_auc_score
from sklearn.utils import Bunch

from shared import protocol
from shared.detectors import ERROR_ALONE, PRESET
from skmemae import MemAEDetector, datasets, presets
from skmemae.benchmark.detectors import OURS, WITHOUT, Makers
from skmemae.metrics import pixel_roc_auc
from skmemae.video import ClipWindows, frame_maps, frame_scores, normality_score

COLUMNS = {
    "micro": "±.4f",
    "smoothed": ".4f",
    "raw": ".4f",
    "macro": ".4f",
    "pixel": ".4f",
    "fit_seconds": ".0f",
    "frames_per_second": ".0f",
}
LENGTH = 9
PRESET_WITHOUT = f"{PRESET}, {WITHOUT}"
_MAX_CELLS = 100
_POOL = 10
_SIGMA = 3
Videos = Sequence[np.ndarray]


class OnClips(BaseEstimator):
    """Detector of videos from a detector of clips."""

    def __init__(self, detector: Any, windows: ClipWindows) -> None:
        self.detector = detector
        self.windows = windows

    def fit(self, videos: Videos) -> "OnClips":
        """Fit on the clips of the videos."""
        self.detector.fit(self.windows.fit_transform(videos))
        return self

    def scores(self, videos: Videos) -> list[np.ndarray]:
        """Scores of frames, one array per video; higher = more abnormal."""
        clips = self.windows.transform(videos)
        return frame_scores(self.detector.decision_function(clips), clips)

    def maps(self, videos: Videos) -> list[np.ndarray] | None:
        """Anomaly maps of frames, one array per video; None if the detector has no maps."""
        return frame_maps(self.detector, self.windows.transform(videos)) if hasattr(self.detector, "anomaly_map") else None


class OnRows(BaseEstimator):
    """Detector of clips from a detector of vectors."""

    def __init__(self, detector: Any) -> None:
        self.detector = detector

    def fit(self, clips: np.ndarray) -> "OnRows":
        """Fit on flattened clips."""
        self.detector.fit(np.asarray(clips).reshape(len(clips), -1))
        return self

    def decision_function(self, clips: np.ndarray) -> np.ndarray:
        """Scores of clips, higher = more abnormal."""
        return self.detector.decision_function(np.asarray(clips).reshape(len(clips), -1))


def main(argv: Sequence[str] | None = None) -> None:
    """Run all cells, print the tables and draw a figure."""
    protocol.run(PROTOCOL, protocol.make_protocol_parser("video", __doc__, seeds=1).parse_args(argv))


def pasted(data_home: str | None) -> Bunch:
    """UCSD Ped2 with anomalies that are made from its training videos."""
    dataset = datasets.load_ped2(data_home)
    made = datasets.make_pasted_anomalies(dataset.train, random_state=0)
    made.name = f"{dataset.name}, pasted"
    return made


def tasks(dataset: Bunch, seed: int) -> Iterator[tuple[str, Callable[[], Bunch]]]:
    """Yield the task, "", and the data set, which is published with its split."""
    yield "", lambda: dataset


def makers(dataset: Bunch, seed: int) -> Makers:
    """Functions that create unfitted detectors of videos, by name."""
    cell = cell_size(dataset.train)

    def small(length: int = LENGTH, changes: bool = True, **parameters: Any) -> OnClips:
        detector = MemAEDetector(random_state=seed, **{**presets.small_video(), **parameters})
        return OnClips(detector, ClipWindows(length, changes=changes, cell=cell))

    def pooled(detector: Any) -> OnClips:
        return OnClips(OnRows(detector), ClipWindows(1, changes=True, cell=_POOL * cell))

    def paper(**parameters: Any) -> OnClips:
        return OnClips(MemAEDetector(random_state=seed, **{**presets.paper("video"), **parameters}), ClipWindows(16))

    plain = partial(small, memory_size=0, anomaly_score="local")
    return {
        OURS: small,
        ERROR_ALONE: partial(small, anomaly_score="local"),
        WITHOUT: plain,
        "frames, no memory": partial(plain, changes=False),
        "single frames, no memory": partial(plain, length=1, changes=False),
        "defaults": lambda: OnClips(MemAEDetector(random_state=seed), ClipWindows(LENGTH, changes=True, cell=cell)),
        "differences, PCA": lambda: pooled(PCA(random_state=seed)),
        "differences, KNN": lambda: pooled(KNN()),
        "differences, IForest": lambda: pooled(IForest(random_state=seed)),
        PRESET: paper,
        PRESET_WITHOUT: partial(paper, memory_size=0),
    }


def cell_size(videos: Videos) -> int:
    """Side of a cell in pixels, so that the smaller side of a frame has at most ``_MAX_CELLS`` cells."""
    return max(1, -(-min(videos[0].shape[1:3]) // _MAX_CELLS))


def measure(detector: OnClips, split: Bunch) -> dict[str, float]:
    """Fit, score all frames of the test videos, and return a dict of ROC AUCs, seconds and speed."""
    start = perf_counter()
    detector.fit(split.train)
    fitted = perf_counter()
    scores = detector.scores(split.test)
    seconds = perf_counter() - fitted
    labels = np.concatenate(split.labels)
    mixed = [(y, s) for y, s in zip(split.labels, scores, strict=True) if 0 < y.mean() < 1]
    maps = detector.maps(split.test)
    return {
        "micro": micro(labels, scores),
        "smoothed": micro(labels, [gaussian_filter1d(s, _SIGMA, mode="nearest") for s in scores]),
        "raw": float(roc_auc_score(labels, np.concatenate(scores))),
        "macro": float(np.mean([roc_auc_score(y, s) for y, s in mixed])),
        "pixel": float("nan") if maps is None else pixel_roc_auc(maps, split.masks),
        "fit_seconds": fitted - start,
        "frames_per_second": len(labels) / seconds,
    }


def micro(labels: np.ndarray, scores: list[np.ndarray]) -> float:
    """ROC AUC over all frames after scaling scores to [0, 1] within each video; higher = better."""
    return float(roc_auc_score(labels, 1 - np.concatenate(normality_score(scores))))


LOADERS = {
    "ped2": datasets.load_ped2,
    "ped2-pasted": pasted,
}
PROTOCOL = protocol.Protocol("video", LOADERS, tasks, makers, COLUMNS, measure, on_request=(PRESET, PRESET_WITHOUT))

if __name__ == "__main__":
    main()
