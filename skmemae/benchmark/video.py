"""Videos with abnormal intervals: the paper's table 2 on UCSD Ped2.

Training videos are normal throughout. Frames of more than 100 pixels a side are averaged over squares of pixels first (the
paper scales them to 256 x 256). Each frame of the test videos gets a score. "micro" is the ROC AUC over all frames together
after scaling scores to [0, 1] within each video, as the paper does it, "raw" that without the scaling, and "macro" the mean of
the AUCs of the videos that hold both kinds of frames. "pixel" is the ROC AUC over all pixels, for detectors that have a map.

"no memory" has MemAE's layers, "frames, no memory" is an autoencoder of single frames. The paper's preset, with and without its
memory, sees frames as they are and runs only where ``--detectors`` names it: it wants a GPU.
"""

from functools import partial
from time import perf_counter

import numpy as np
from pyod.models.iforest import IForest
from pyod.models.pca import PCA
from sklearn.base import BaseEstimator
from sklearn.metrics import roc_auc_score
from sklearn.utils import Bunch

from skmemae import MemAEDetector, datasets, presets
from skmemae.benchmark import cells, report
from skmemae.benchmark.detectors import OURS, PRESET, WITHOUT, select
from skmemae.metrics import pixel_roc_auc
from skmemae.video import ClipWindows, frame_maps, frame_scores, normality_score

SETS = {"ped2": datasets.load_ped2, "avenue": datasets.load_avenue, "shanghaitech": datasets.load_shanghaitech}
# Small enough for a CPU; not chosen by a search.
SMALL = {"widths": (24, 32, 48, 48), "memory_size": 500, "temperature": 0.02, "batch_size": 8, "max_epochs": 8}
COLUMNS = {"micro": "±.4f", "raw": ".4f", "macro": ".4f", "pixel": ".4f", "fit_seconds": ".0f", "frames_per_second": ".0f"}
_MOST_PIXELS = 100
_CELL = 10


class OnClips(BaseEstimator):
    """A detector of clips as one of videos."""

    def __init__(self, detector, length=16, stride=1):
        self.detector = detector
        self.length = length
        self.stride = stride

    def fit(self, videos):
        """Fit on the clips of the videos."""
        self.detector.fit(ClipWindows(self.length, self.stride).fit_transform(videos))
        return self

    def scores(self, videos):
        """Score of each frame, one array for each video."""
        clips = ClipWindows(self.length).fit_transform(videos)
        return frame_scores(self.detector.decision_function(clips), clips)

    def maps(self, videos):
        """Map of each frame, one array for each video."""
        return frame_maps(self.detector, ClipWindows(self.length).fit_transform(videos))


class OnFrames(BaseEstimator):
    """A detector of images as one of videos."""

    def __init__(self, detector):
        self.detector = detector

    def fit(self, videos):
        """Fit on all frames."""
        self.detector.fit(np.concatenate(videos))
        return self

    def scores(self, videos):
        """Score of each frame, one array for each video."""
        return [self.detector.decision_function(video) for video in videos]

    def maps(self, videos):
        """Map of each frame, one array for each video."""
        return [self.detector.anomaly_map(video) for video in videos]


class OnDifferences(BaseEstimator):
    """A detector of vectors as one of videos: what changed since the frame before, averaged over cells of 10 x 10 pixels."""

    def __init__(self, detector):
        self.detector = detector

    def fit(self, videos):
        """Fit on the differences of all frames."""
        self.detector.fit(np.concatenate([self._differences(video) for video in videos]))
        return self

    def scores(self, videos):
        """Score of each frame, one array for each video."""
        return [np.nan_to_num(self.detector.decision_function(self._differences(video))) for video in videos]

    def _differences(self, video):
        change = np.abs(np.diff(video.astype(np.float32), axis=0, prepend=video[1:2]))
        height, width = (size // _CELL * _CELL for size in video.shape[1:])
        return average(change[:, :height, :width], _CELL).reshape(len(video), -1)


def average(video, size):
    """Means over squares of pixels; what is left at the right and lower edges is cut off."""
    n, height, width = video.shape[0], video.shape[1] // size, video.shape[2] // size
    return video[:, : height * size, : width * size].reshape(n, height, size, width, size).mean(axis=(2, 4))


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
        small, whole = partial(smaller, dataset), partial(Bunch, **dataset)
        for seed in range(args.seeds):
            makers = {who: (make, small) for who, make in make_detectors(seed).items()}
            if args.detectors:
                makers |= {who: (make, whole) for who, make in make_paper(seed).items()}
            makers = select(makers, args.detectors)
            planned += [cells.Cell(dataset.name, "", seed, who, make, split) for who, (make, split) in makers.items()]
    return planned


def make_detectors(seed):
    """Makers of detectors of small videos by name."""
    return {
        OURS: lambda: OnClips(MemAEDetector(random_state=seed, **SMALL)),
        WITHOUT: lambda: OnClips(MemAEDetector(random_state=seed, **{**SMALL, "memory_size": 0})),
        "frames, no memory": lambda: OnFrames(MemAEDetector(memory_size=0, random_state=seed)),
        "differences, PCA": lambda: OnDifferences(PCA(random_state=seed)),
        "differences, IForest": lambda: OnDifferences(IForest(random_state=seed)),
    }


def make_paper(seed):
    """Makers of the paper's detectors by name."""
    preset = presets.paper("video")
    return {
        PRESET: lambda: OnClips(MemAEDetector(random_state=seed, **preset)),
        f"{PRESET}, {WITHOUT}": lambda: OnClips(MemAEDetector(random_state=seed, **{**preset, "memory_size": 0})),
    }


def smaller(dataset):
    """The data set with frames of a size that a CPU can train on; a mask is abnormal where any of its pixels is."""
    size = max(1, -(-min(dataset.train[0].shape[1:3]) // _MOST_PIXELS))
    if size == 1:
        return dataset
    shrunk = {part: [np.rint(average(v, size)).astype(np.uint8) for v in dataset[part]] for part in ("train", "test")}
    return Bunch(**{**dataset, **shrunk, "masks": [average(mask, size) > 0 for mask in dataset.masks]})


def measure(detector, split):
    """Fit, score every frame of the test videos, and rank them."""
    start = perf_counter()
    detector.fit(split.train)
    fitted = perf_counter()
    scores = detector.scores(split.test)
    seconds = perf_counter() - fitted
    labels = np.concatenate(split.labels)
    both = [(y, s) for y, s in zip(split.labels, scores, strict=True) if 0 < y.mean() < 1]
    maps = detector.maps(split.test) if hasattr(detector, "maps") else None
    return {
        "micro": float(roc_auc_score(labels, 1 - np.concatenate(normality_score(scores)))),
        "raw": float(roc_auc_score(labels, np.concatenate(scores))),
        "macro": float(np.mean([roc_auc_score(y, s) for y, s in both])),
        "pixel": float("nan") if maps is None else pixel_roc_auc(maps, split.masks),
        "fit_seconds": fitted - start,
        "frames_per_second": len(labels) / seconds,
    }
