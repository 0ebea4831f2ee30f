"""Videos with abnormal intervals: the paper's table 2 on UCSD Ped2.

Training videos are normal; each frame of a test video gets a score. "micro" is the ROC AUC over all frames after scaling the
scores to [0, 1] within each video, as in the paper; "raw" is the same without the scaling; "macro" is the mean of the AUCs of
the videos with both normal and abnormal frames. "smoothed" is micro after a Gaussian filter over time with sigma = 3 frames.
"pixel" is the ROC AUC over all pixels, for detectors with an anomaly map. Higher = better for all of them.

"MemAE" is `presets.small_video()` on clips of differences between frames, averaged over cells, of which the smaller side has at
most 100; "MemAE, error alone" does without the exemplars. "no memory" has the same layers and neither memory nor exemplars, as
have the autoencoders of clips of frames ("frames, no memory") and of single frames ("single frames, no memory"). "defaults" is
MemAEDetector at its defaults on clips of differences. PyOD's detectors see the differences of one frame, averaged over squares
of ten by ten cells. The paper's preset, with and without its memory, sees clips of 16 whole frames. It needs a GPU and runs
only if ``--detectors`` names it.

The anomalies of "ped2-pasted" need no label: they are pasted into three training videos (`datasets.make_pasted_anomalies`).
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
from skmemae.benchmark.detectors import ERROR_ALONE, OURS, PRESET, WITHOUT, select
from skmemae.metrics import pixel_roc_auc
from skmemae.video import ClipWindows, frame_maps, frame_scores, normality_score


def pasted(data_home):
    """UCSD Ped2 with anomalies that are made from its training videos."""
    dataset = datasets.load_ped2(data_home)
    made = datasets.make_pasted_anomalies(dataset.train, random_state=0)
    made.name = f"{dataset.name}, pasted"
    return made


SETS = {
    "ped2": datasets.load_ped2,
    "ped2-pasted": pasted,
}
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
_MAX_CELLS = 100
_POOL = 10
_SIGMA = 3


class OnClips(BaseEstimator):
    """Detector of videos from a detector of clips."""

    def __init__(self, detector, windows):
        self.detector = detector
        self.windows = windows

    def fit(self, videos):
        """Fit on the clips of the videos."""
        self.detector.fit(self.windows.fit_transform(videos))
        return self

    def scores(self, videos):
        """Scores of frames, one array per video; higher = more abnormal."""
        clips = self.windows.transform(videos)
        return frame_scores(self.detector.decision_function(clips), clips)

    def maps(self, videos):
        """Anomaly maps of frames, one array per video; None if the detector has no maps."""
        return frame_maps(self.detector, self.windows.transform(videos)) if hasattr(self.detector, "anomaly_map") else None


class OnRows(BaseEstimator):
    """Detector of clips from a detector of vectors."""

    def __init__(self, detector):
        self.detector = detector

    def fit(self, clips):
        """Fit on flattened clips."""
        self.detector.fit(np.asarray(clips).reshape(len(clips), -1))
        return self

    def decision_function(self, clips):
        """Scores of clips, higher = more abnormal."""
        return self.detector.decision_function(np.asarray(clips).reshape(len(clips), -1))


def add_arguments(parser):
    """Add the options of the protocol."""
    cells.add_arguments(parser, seeds=1)


def run(args):
    """Run all cells, print the tables and draw a figure."""
    rows = cells.run(plan(args), f"{args.out}/video.jsonl", measure, desc="video")
    report.finish(rows, COLUMNS, args.out, "video")


def plan(args):
    """Cells, one for each data set, seed and detector."""
    planned = []
    names = cells.selected("--data", args.data, SETS)
    select(makers(args, 0, 1), args.detectors)  # before anything is loaded
    for name in names:
        try:
            dataset = SETS[name](args.data_home)
        except OSError as error:
            # A data set named in --data must exist; otherwise it is skipped.
            if args.data:
                raise SystemExit(str(error)) from error
            print(f"left out: {error}")
            continue
        for seed in range(args.seeds):
            made = select(makers(args, seed, cell_size(dataset.train)), args.detectors)
            split = partial(_identity, dataset)
            planned += [cells.Cell(dataset.name, "", seed, detector, make, split) for detector, make in made.items()]
    return planned


def makers(args, seed, cell):
    """Functions that create unfitted detectors, by name; the paper's only where some are asked for."""
    return make_detectors(seed, cell) | (make_paper(seed) if args.detectors else {})


def _identity(dataset):
    return dataset


def make_detectors(seed, cell):
    """Functions that create unfitted detectors of videos, by name."""

    def small(length=LENGTH, changes=True, **parameters):
        detector = MemAEDetector(random_state=seed, **{**presets.small_video(), **parameters})
        return OnClips(detector, ClipWindows(length, changes=changes, cell=cell))

    def plain(**parameters):
        return small(memory_size=0, anomaly_score="local", **parameters)

    def pooled(detector):
        return OnClips(OnRows(detector), ClipWindows(1, changes=True, cell=_POOL * cell))

    return {
        OURS: small,
        ERROR_ALONE: lambda: small(anomaly_score="local"),
        WITHOUT: lambda: plain(),
        "frames, no memory": lambda: plain(changes=False),
        "single frames, no memory": lambda: plain(length=1, changes=False),
        "defaults": lambda: OnClips(MemAEDetector(random_state=seed), ClipWindows(LENGTH, changes=True, cell=cell)),
        "differences, PCA": lambda: pooled(PCA(random_state=seed)),
        "differences, KNN": lambda: pooled(KNN()),
        "differences, IForest": lambda: pooled(IForest(random_state=seed)),
    }


def make_paper(seed):
    """Functions that create the paper's detectors, by name."""

    def paper(**parameters):
        return OnClips(MemAEDetector(random_state=seed, **{**presets.paper("video"), **parameters}), ClipWindows(16))

    return {PRESET: paper, f"{PRESET}, {WITHOUT}": lambda: paper(memory_size=0)}


def cell_size(videos):
    """Side of a cell in pixels, so that the smaller side of a frame has at most ``_MAX_CELLS`` cells."""
    return max(1, -(-min(videos[0].shape[1:3]) // _MAX_CELLS))


def measure(detector, split):
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


def micro(labels, scores):
    """ROC AUC over all frames after scaling scores to [0, 1] within each video; higher = better."""
    return float(roc_auc_score(labels, 1 - np.concatenate(normality_score(scores))))
