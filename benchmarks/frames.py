"""Frames scored per second with both video presets, the memory's share of the time, and main memory for a long video.

Run ``python benchmarks/frames.py`` from the root of the repository.

"frames_per_second" scores a whole video of noise, one clip per frame; "live" scores its frames one by one; both in frames per
second. "memory_seconds" are the seconds of addressing the memory with one clip. Networks are trained for one epoch on eight
clips, as weights do not change the cost. With ``--gib`` a video of that size is written to disk and cut into clips of cells
without overlap; a narrow network is trained on them for one epoch and scores them. "peak_gib" is the peak of the process's
anonymous memory, without pages of the file.
"""

import tempfile
from argparse import Namespace
from collections.abc import Callable, Sequence
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import torch

from figures.memory import anonymous_memory
from skmemae import MemAEDetector, presets
from skmemae.benchmark import report, store
from skmemae.benchmark.command import make_parser
from skmemae.video import ClipWindows, OnlineNormality
from video import LENGTH

# Parameters, windows and frame size; the paper's preset has the paper's frame size.
PRESETS = {
    "small": (presets.small_video(), ClipWindows(LENGTH, changes=True, cell=2), (120, 180)),
    "paper": (presets.paper("video"), ClipWindows(16), (256, 256)),
}
COLUMNS = {"frames_per_second": ".1f", "live": ".1f", "memory_seconds": ".1e"}
_FRAME = (256, 256)
_GIB = 2**30


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, print tables and write the rows."""
    args = parse(argv)
    if args.gib:  # first, before other measurements take memory
        Path(args.out).mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=args.out) as folder:
            rows = [streaming(Path(folder) / "video.npy", int(args.gib * _GIB / np.prod(_FRAME)))]
        print(report.table(rows, "what", {"video_gib": ".2f", "peak_gib": ".3f", "fit_seconds": ".0f", "score_seconds": ".0f"}))
        store.save(rows, args.out, "streaming")
    rows = [row for name in args.presets for row in speed(name, args.frames, args.repeats)]
    print(report.table(rows, "what", COLUMNS))
    print(f"device {rows[0]['device']}, threads {rows[0]['threads']}")
    store.save(rows, args.out, "frames")


def parse(argv: Sequence[str] | None) -> Namespace:
    """Parse the command line."""
    parser = make_parser("python benchmarks/frames.py", __doc__)
    parser.add_argument("--presets", nargs="+", choices=list(PRESETS), default=list(PRESETS), help="only these presets")
    parser.add_argument("--frames", type=int, default=48, metavar="T", help="frames of the video (default: %(default)s)")
    parser.add_argument("--repeats", type=int, default=3, metavar="R", help="repeats of each figure (default: %(default)s)")
    parser.add_argument("--gib", type=float, default=0, metavar="G", help="size of a video on disk, 0 = none (default)")
    return parser.parse_args(argv)


def speed(name: str, n_frames: int, repeats: int) -> list[dict[str, Any]]:
    """Rows of a preset, one per repeat."""
    parameters, windows, frame_shape = PRESETS[name]
    video = np.random.default_rng(0).integers(0, 255, size=(n_frames, *frame_shape), dtype=np.uint8)
    clips = windows.fit_transform([video])
    one_epoch = {"batch_size": 2, "max_epochs": 1, "validation_fraction": 0.0, "random_state": 0}
    detector = MemAEDetector(**{**parameters, **one_epoch}).fit(clips[:8])
    network = detector.model_[0]
    with torch.inference_mode():
        queries = network.queries(torch.zeros(1, *detector.sample_shape_, device=detector.device_))
    rows = []
    for _ in range(repeats):
        online = OnlineNormality(detector, windows)
        rows.append(
            {
                "what": f"{name}, {windows.length} x {frame_shape[0]} x {frame_shape[1]}",
                "frames_per_second": len(clips) / seconds(lambda: detector.decision_function(clips)),
                "live": len(clips) / seconds(lambda online=online: [online.push(frame) for frame in video]),
                "memory_seconds": seconds(lambda: network.memory(queries), detector.device_),
                "device": detector.device_,
                "threads": torch.get_num_threads(),
            }
        )
    return rows


@torch.inference_mode()
def seconds(work: Callable[[], Any], device: str = "cpu") -> float:
    """Seconds of a call of ``work``."""
    start = perf_counter()
    work()
    if device.startswith("cuda"):
        torch.cuda.synchronize()
    return perf_counter() - start


def streaming(file: Path, n_frames: int) -> dict[str, Any]:
    """Row of fitting and scoring a video on disk: seconds and peak anonymous memory."""
    video = np.lib.format.open_memmap(file, mode="w+", dtype=np.uint8, shape=(n_frames, *_FRAME))
    noise = np.random.default_rng(0).integers(0, 255, size=(256, *_FRAME), dtype=np.uint8)
    for first in range(0, n_frames, len(noise)):
        video[first : first + len(noise)] = noise[: n_frames - first]
    del video, noise
    clips = ClipWindows(16, stride=16, cell=4).fit_transform([np.load(file, mmap_mode="r")])
    narrow = {"widths": (4, 4, 8, 8), "memory_size": 100, "batch_size": 8, "max_epochs": 1, "random_state": 0}
    with anonymous_memory() as held:
        start = perf_counter()
        detector = MemAEDetector(**narrow).fit(clips)
        fitted = perf_counter()
        detector.decision_function(clips)
    return {
        "what": "streaming",
        "video_gib": file.stat().st_size / _GIB,
        "peak_gib": max(held) / _GIB,
        "fit_seconds": fitted - start,
        "score_seconds": perf_counter() - fitted,
    }


if __name__ == "__main__":
    main()
