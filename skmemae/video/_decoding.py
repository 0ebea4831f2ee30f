"""Decode video files, and warn of what is missing in them."""

import re
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from skmemae._runtime import warn_caller

_DECLARE_LENGTH = ("mov", "matroska", "avi", "flv")  # of other containers FFmpeg guesses the length from what is there
_FEW = 5  # usual intervals between frames; good files of variable frame rate miss or skip about as many
_SHORT = 0.5  # seconds; the lengths that good files declare differ from what they hold by less


def decoded(file: Path) -> Iterator[np.ndarray]:
    """Yield the frames of a video file, upright; there is at least one.

    They have shape (H, W, 3) and dtype uint8; those of grey videos with more than eight bits have shape (H, W) and their own
    numbers. Once all are read, a warning says if the file breaks off, frames are damaged, or there are gaps in time.

    Raises
    ------
    OSError
        If the file cannot be read or has no frames.
    ValueError
        If frames are to be shown turned by anything but multiples of 90 degrees.
    ImportError
        If PyAV is not installed.
    """
    av = _pyav()
    seen, declared_end = _Seen(), 0.0
    try:
        with av.open(str(file), metadata_errors="replace") as container:  # titles in another encoding do not matter here
            if container.streams.video:
                for frame in seen.frames(container):
                    yield _upright(file, frame, _numbers(frame))
                declared_end = _declared_end(container)
    except av.FFmpegError as error:
        raise OSError(f"Video {file} cannot be read: {error}") from error
    if not seen.times:
        raise OSError(f"Video {file} cannot be read: it has no frames.")
    seen.warn(file, declared_end)


def _pyav() -> ModuleType:
    try:
        import av
    except ImportError as error:
        raise ImportError('Videos are read with PyAV: pip install "skmemae[video]"') from error
    return av


def _numbers(frame: Any) -> np.ndarray:
    """A frame of shape (H, W, 3), uint8; or (H, W) if it is grey and has more than eight bits."""
    grey = re.fullmatch(r"gray(f?)(\d+)(le|be)", frame.format.name)
    if grey is None:
        return frame.to_ndarray(format="rgb24")
    floating, bits, order = grey.groups()
    dtype = np.dtype(f"{'<' if order == 'le' else '>'}{floating or 'u'}{-(-int(bits) // 8)}")
    plane = frame.planes[0]
    rows = np.frombuffer(plane, dtype).reshape(-1, plane.line_size // dtype.itemsize)  # rows are padded
    return rows[: frame.height, : frame.width].astype(dtype.newbyteorder("="))


def _upright(file: Path, frame: Any, array: np.ndarray) -> np.ndarray:
    """Turn and mirror a frame as the display matrix of the file says."""
    matrix = frame.side_data.get("DISPLAYMATRIX")
    if matrix is None:
        return array
    # A pixel at (x, y) is shown at (a x + c y, b x + d y).
    a, b, _, c, d = np.frombuffer(bytes(matrix), dtype=np.int32)[:5] / 65536
    straight, across = abs(a) + abs(d), abs(b) + abs(c)
    if min(straight, across) > 0.01 * max(straight, across):
        shown = f"[[{a:.2f}, {b:.2f}], [{c:.2f}, {d:.2f}]]"
        raise ValueError(
            f"Video {file} has the display matrix {shown}; accepted are turns by multiples of 90 degrees and mirrors."
        )
    if across > straight:
        array, a, d = array.swapaxes(0, 1), c, b
    return array[:: -1 if d < 0 else 1, :: -1 if a < 0 else 1]


def _declared_end(container: Any) -> float:
    """Time in seconds at which the file says that it ends; 0 if it does not say so."""
    name, stream = container.format.name.split(",")[0], container.streams.video[0]
    if name not in _DECLARE_LENGTH:
        return 0.0
    end = (container.duration or 0) / 1e6
    if name == "mov":  # Matroska counts from zero
        end += (container.start_time or 0) / 1e6
    if name == "avi" and stream.average_rate:  # the duration of half a file is that of the half
        end = max(end, float(stream.frames / stream.average_rate))
    return end


class _Seen:
    """What was seen of a video: times of frames and of packets, in seconds, and the number of damaged frames."""

    def __init__(self) -> None:
        self.times: list[float | None] = []
        self.n_damaged = 0
        self.first_packet = np.inf
        self.last_packet = -np.inf
        self.end = -np.inf  # of all streams: sound may outlast the picture

    def frames(self, container: Any) -> Iterator[Any]:
        """Yield the frames of the first video stream."""
        index = container.streams.video[0].index
        for packet in container.demux():
            is_video = packet.stream.index == index
            self._note(packet, is_video)
            for frame in packet.decode() if is_video else ():
                self.times.append(frame.time)
                self.n_damaged += bool(frame.is_corrupt)
                yield frame

    def _note(self, packet: Any, is_video: bool) -> None:
        if packet.pts is None or packet.time_base is None:
            return
        start = float(packet.pts * packet.time_base)
        self.end = max(self.end, start + float((packet.duration or 0) * packet.time_base))
        if is_video and not packet.is_discard:  # those before a cut are there for decoding alone
            self.first_packet = min(self.first_packet, start)
            self.last_packet = max(self.last_packet, start)

    def warn(self, file: Path, declared_end: float) -> None:
        """Warn of what is missing, compared with the end that the file declares."""
        n = len(self.times)
        times = np.array([time for time in self.times if time is not None])
        steps = np.diff(times) if len(times) == n else np.empty(0)  # some formats have no times
        usual = max(float(np.median(steps)), 0.0) if len(steps) else 0.0
        allowed = max(_FEW * usual, _SHORT)
        if self.n_damaged:
            warn_caller(f"Video {file} is damaged: {self.n_damaged} of its {n} frames could not be decoded in full.")
        if np.isfinite(self.end) and declared_end - self.end > allowed:
            warn_caller(
                f"Video {file} breaks off: it declares {declared_end:.2f} seconds, but ends after {self.end:.2f}. "
                f"Its first {n} frames are read."
            )
        lost = max(times[0] - self.first_packet, self.last_packet - times[-1]) if len(times) else 0.0
        if lost > allowed:
            warn_caller(f"Video {file} is damaged: {lost:.2f} seconds at its start or end could not be decoded.")
        if usual:
            _warn_of_gaps(file, times, steps, usual)


def _warn_of_gaps(file: Path, times: np.ndarray, steps: np.ndarray, usual: float) -> None:
    gaps = np.flatnonzero(steps > _FEW * usual)
    if len(gaps):
        at = gaps[np.argmax(steps[gaps])]
        warn_caller(
            f"Video {file} has {len(gaps)} gap(s) in time, the longest of {steps[at]:.2f} seconds after frame {at} "
            f"(at {times[at]:.2f} seconds); {usual:.3g} seconds are usual. Frames are joined as if there were none."
        )
