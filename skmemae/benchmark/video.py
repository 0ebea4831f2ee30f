"""Videos with abnormal intervals: the paper's table 2 on UCSD Ped2.

Training videos are normal throughout, and each frame of the test videos gets a score. "micro" is the ROC AUC over all frames
together after scaling scores to [0, 1] within each video, as the paper does it, "raw" that without the scaling, and "macro" the
mean of the AUCs of the videos that hold both kinds of frames. "smoothed" is micro after a Gaussian of three frames over time.
"pixel" is the ROC AUC over all pixels, for detectors with a map.

"MemAE" is `presets.small_video()` on clips of what changes between frames, averaged over cells that leave at most 100 to the
smaller side. "no memory" has the same layers, and so have the autoencoders of clips of frames ("frames, no memory") and of one
frame at a time ("single frames, no memory"). "defaults" is MemAEDetector without any setting, on clips of changes. PyOD's
detectors see the changes of one frame, averaged over squares of ten cells. The paper's preset, with and without its memory,
sees clips of 16 frames as they are and runs only where ``--detectors`` names it: it wants a GPU.
"""

from functools import partial
from time import perf_counter

import numpy as np
from pyod.models.iforest import IForest
from pyod.models.knn import KNN
from pyod.models.pca import PCA
from scipy.ndimage import gaussian_filter1d
from sklearn.base import BaseEstimator
from sklearn.metrics import roc_auc_score

from skmemae import MemAEDetector, datasets, presets
from skmemae.benchmark import cells, report
from skmemae.benchmark.detectors import OURS, PRESET, WITHOUT, select
from skmemae.metrics import pixel_roc_auc
from skmemae.video import ClipWindows, frame_maps, frame_scores, normality_score

SETS = {"ped2": datasets.load_ped2, "avenue": datasets.load_avenue, "shanghaitech": datasets.load_shanghaitech}
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
_MOST_CELLS = 100
_POOL = 10
_SIGMA = 3


class OnClips(BaseEstimator):
    """A detector of clips as one of videos."""

    def __init__(self, detector, windows):
        self.detector = detector
        self.windows = windows

    def fit(self, videos):
        """Fit on the clips of the videos."""
        self.detector.fit(self.windows.fit_transform(videos))
        return self

    def scores(self, videos):
        """Score of each frame, one array for each video."""
        clips = self.windows.transform(videos)
        return frame_scores(self.detector.decision_function(clips), clips)

    def maps(self, videos):
        """Map of each frame, one array for each video; None where the detector has none."""
        return frame_maps(self.detector, self.windows.transform(videos)) if hasattr(self.detector, "anomaly_map") else None


class OnRows(BaseEstimator):
    """A detector of vectors as one of clips."""

    def __init__(self, detector):
        self.detector = detector

    def fit(self, clips):
        """Fit on all numbers of each clip."""
        self.detector.fit(np.asarray(clips).reshape(len(clips), -1))
        return self

    def decision_function(self, clips):
        """Score of each clip."""
        return self.detector.decision_function(np.asarray(clips).reshape(len(clips), -1))


def add_arguments(parser):
    """Options of the protocol."""
    cells.add_arguments(parser, seeds=1)


def run(args):
    """Fill every cell, print the table, draw a picture."""
    rows = cells.run(plan(args), f"{args.out}/video.jsonl", measure, desc="video")
    report.finish(rows, COLUMNS, args.out, "video")


def plan(args):
    """One cell for each data set, seed and detector."""
    planned = []
    for name in report.chosen(args.data, SETS):
        try:
            dataset = SETS[name](args.data_home)
        except OSError as error:
            # Asked for by name it must be there; else the others go on without it.
            if args.data:
                raise SystemExit(str(error)) from error
            print(f"left out: {error}")
            continue
        for seed in range(args.seeds):
            makers = make_detectors(seed, cell_of(dataset.train))
            if args.detectors:
                makers |= make_paper(seed)
            makers = select(makers, args.detectors)
            planned += [cells.Cell(dataset.name, "", seed, who, make, partial(_given, dataset)) for who, make in makers.items()]
    return planned


def _given(dataset):
    """The split of a cell, which is read already."""
    return dataset


def make_detectors(seed, cell):
    """Makers of detectors of videos by name."""

    def small(length=LENGTH, changes=True, **parameters):
        detector = MemAEDetector(random_state=seed, **{**presets.small_video(), **parameters})
        return OnClips(detector, ClipWindows(length, changes=changes, cell=cell))

    def pooled(detector):
        return OnClips(OnRows(detector), ClipWindows(1, changes=True, cell=_POOL * cell))

    return {
        OURS: small,
        WITHOUT: lambda: small(memory_size=0),
        "frames, no memory": lambda: small(changes=False, memory_size=0),
        "single frames, no memory": lambda: small(length=1, changes=False, memory_size=0),
        "defaults": lambda: OnClips(MemAEDetector(random_state=seed), ClipWindows(LENGTH, changes=True, cell=cell)),
        "differences, PCA": lambda: pooled(PCA(random_state=seed)),
        "differences, KNN": lambda: pooled(KNN()),
        "differences, IForest": lambda: pooled(IForest(random_state=seed)),
    }


def make_paper(seed):
    """Makers of the paper's detectors by name."""

    def paper(**parameters):
        return OnClips(MemAEDetector(random_state=seed, **{**presets.paper("video"), **parameters}), ClipWindows(16))

    return {PRESET: paper, f"{PRESET}, {WITHOUT}": lambda: paper(memory_size=0)}


def cell_of(videos):
    """Pixels of a cell, so that a CPU can train on what is left."""
    return max(1, -(-min(videos[0].shape[1:3]) // _MOST_CELLS))


def measure(detector, split):
    """Fit, score every frame of the test videos, and rank them."""
    start = perf_counter()
    detector.fit(split.train)
    fitted = perf_counter()
    scores = detector.scores(split.test)
    seconds = perf_counter() - fitted
    labels = np.concatenate(split.labels)
    both = [(y, s) for y, s in zip(split.labels, scores, strict=True) if 0 < y.mean() < 1]
    maps = detector.maps(split.test)
    return {
        "micro": micro(labels, scores),
        "smoothed": micro(labels, [gaussian_filter1d(s, _SIGMA, mode="nearest") for s in scores]),
        "raw": float(roc_auc_score(labels, np.concatenate(scores))),
        "macro": float(np.mean([roc_auc_score(y, s) for y, s in both])),
        "pixel": float("nan") if maps is None else pixel_roc_auc(maps, split.masks),
        "fit_seconds": fitted - start,
        "frames_per_second": len(labels) / seconds,
    }


def micro(labels, scores):
    """ROC AUC over all frames after scaling scores to [0, 1] within each video."""
    return float(roc_auc_score(labels, 1 - np.concatenate(normality_score(scores))))
