"""Video files that several tests read."""

import struct
from fractions import Fraction

import av
import numpy as np


def write_video(path, frames, fps=25, times=None, codec="libx264", pix_fmt="yuv420p", sound=0):
    """Encode frames of shape (T, H, W, 3), uint8, or (T, H, W) of the pixel format.

    ``times`` are those of the frames in milliseconds, and ``sound`` is the number of seconds of silence beside them.
    """
    with av.open(str(path), "w", options={"movflags": "faststart"} if str(path).endswith("mp4") else {}) as container:
        stream = container.add_stream(codec, rate=fps)
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = pix_fmt
        if times is not None:
            stream.codec_context.time_base = Fraction(1, 1000)
        silence = container.add_stream("aac", rate=8000) if sound else None
        for i, frame in enumerate(frames):
            encoded = av.VideoFrame.from_ndarray(frame, format="rgb24") if frame.ndim == 3 else _grey(frame, pix_fmt)
            if times is not None:
                encoded.pts, encoded.time_base = int(times[i]), Fraction(1, 1000)
            container.mux(stream.encode(encoded))
        container.mux(stream.encode())
        for start in range(0, 8000 * sound, 1024):
            samples = av.AudioFrame.from_ndarray(np.zeros((1, 1024), dtype=np.float32), format="fltp", layout="mono")
            samples.rate, samples.pts = 8000, start
            container.mux(silence.encode(samples))
        if silence:
            container.mux(silence.encode())


def _grey(numbers, pix_fmt):
    """A frame with these numbers, little-endian."""
    frame = av.VideoFrame(numbers.shape[1], numbers.shape[0], pix_fmt)
    plane = frame.planes[0]
    rows = np.zeros((plane.buffer_size // plane.line_size, plane.line_size // 2), dtype="<u2")
    rows[: len(numbers), : numbers.shape[1]] = numbers
    plane.update(rows.tobytes())
    return frame


def set_display_matrix(path, a, b, c, d):
    """Have an MP4 file say that a pixel at (x, y) is to be shown at (a x + c y, b x + d y)."""
    content = bytearray(path.read_bytes())
    header = content.find(b"tkhd") + 4
    matrix = header + (40 if content[header] == 0 else 52)
    numbers = [round(n * 65536) for n in (a, b, 0, c, d, 0, 0, 0)]
    content[matrix : matrix + 36] = struct.pack(">9i", *numbers, 1 << 30)
    path.write_bytes(content)
