"""Data that are made."""

import numpy as np
from sklearn.datasets import load_digits
from sklearn.utils import Bunch, check_random_state


def make_moving_digits(n_clips=400, n_frames=8, size=16, random_state=None):
    """Clips of scikit-learn's handwritten digits in motion.

    In normal clips a digit from 0 to 4 moves sideways, one pixel a frame, and turns back at the edges. Half of the abnormal
    clips show another digit, the others a known digit that moves up and down.

    Parameters
    ----------
    n_clips : int, default=400
        Number of normal clips, and of abnormal ones half as many.
    n_frames, size : int, default=8 and 16
        Frames of a clip, and height and width of a frame in pixels; a digit has 8 x 8.
    random_state : int, RandomState instance or None, default=None

    Returns
    -------
    clips : Bunch
        ``data`` of shape (1.5 * n_clips, 1, n_frames, size, size), float32 in [0, 1], and ``target`` (1 = abnormal).

    Examples
    --------
    >>> from skmemae.datasets import make_moving_digits
    >>> make_moving_digits(n_clips=10, random_state=0).data.shape
    (15, 1, 8, 16, 16)
    """
    rng = check_random_state(random_state)
    digits = load_digits()
    usual, unusual = (np.flatnonzero(mask) for mask in (digits.target < 5, digits.target >= 5))
    n_odd = n_clips // 2
    clips = np.zeros((n_clips + n_odd, 1, n_frames, size, size), dtype=np.float32)
    room = size - 8
    for i, clip in enumerate(clips):
        other_digit = i >= n_clips and i % 2 == 0
        image = digits.images[rng.choice(unusual if other_digit else usual)] / 16
        start, across, direction = rng.randint(2 * room), rng.randint(room + 1), rng.choice([-1, 1])
        upright = i >= n_clips and not other_digit
        for t in range(n_frames):
            along = room - abs((start + direction * t) % (2 * room) - room)  # a triangle wave: turns back at the edges
            top, left = (along, across) if upright else (across, along)
            clip[0, t, top : top + 8, left : left + 8] = image
    return Bunch(data=clips, target=np.repeat([0, 1], [n_clips, n_odd]))
