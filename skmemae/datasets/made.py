"""Generate clips of moving digits."""

import numpy as np
from sklearn.datasets import load_digits
from sklearn.utils import Bunch, check_random_state


def make_moving_digits(
    n_clips: int = 400,
    n_frames: int = 8,
    size: int = 16,
    random_state: int | np.random.RandomState | None = None,
) -> Bunch:
    """Generate clips of moving handwritten digits from scikit-learn's digits.

    In normal clips a digit from 0 to 4 moves horizontally, one pixel per frame, and reverses at the edges. Half of the abnormal
    clips show a digit from 5 to 9; the others show a digit from 0 to 4 that moves vertically.

    Parameters
    ----------
    n_clips : int, default=400
        Number of normal clips; half as many abnormal clips are added.
    n_frames : int, default=8
        Frames per clip.
    size : int, default=16
        Height and width of a frame in pixels; more than the 8 of a digit.
    random_state : int, RandomState instance or None, default=None

    Returns
    -------
    clips : Bunch
        ``data`` of shape (1.5 * n_clips, 1, n_frames, size, size), float32 in [0, 1], and ``target`` of shape
        (1.5 * n_clips,), int, 1 = abnormal; normal clips come first.

    Examples
    --------
    >>> from skmemae.datasets import make_moving_digits
    >>> make_moving_digits(n_clips=10, random_state=0).data.shape
    (15, 1, 8, 16, 16)
    """
    rng = check_random_state(random_state)
    digits = load_digits()
    normal_digits, abnormal_digits = (np.flatnonzero(mask) for mask in (digits.target < 5, digits.target >= 5))
    n_abnormal = n_clips // 2
    clips = np.zeros((n_clips + n_abnormal, 1, n_frames, size, size), dtype=np.float32)
    n_steps = size - 8  # from one edge to the other
    for i, clip in enumerate(clips):
        other_digit = i >= n_clips and i % 2 == 0
        image = digits.images[rng.choice(abnormal_digits if other_digit else normal_digits)] / 16
        start, across, direction = rng.randint(2 * n_steps), rng.randint(n_steps + 1), rng.choice([-1, 1])
        vertical = i >= n_clips and not other_digit
        for t in range(n_frames):
            along = n_steps - abs((start + direction * t) % (2 * n_steps) - n_steps)  # a triangle wave: reverses at the edges
            top, left = (along, across) if vertical else (across, along)
            clip[0, t, top : top + 8, left : left + 8] = image
    return Bunch(data=clips, target=np.repeat([0, 1], [n_clips, n_abnormal]))
