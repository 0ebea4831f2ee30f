"""One-class splits and moving digits."""

import numpy as np
import pytest
from sklearn.datasets import load_digits

from skmemae.datasets import make_moving_digits, one_class_split


def test_training_is_normal_and_the_test_set_has_its_share_of_outliers():
    X, y = load_digits(return_X_y=True)
    X = np.column_stack([X, np.arange(len(X))])
    split = one_class_split(X, y, 3, random_state=0)
    assert (y[split.X_train[:, -1].astype(int)] == 3).all()
    test = split.X_test[:, -1].astype(int)
    np.testing.assert_array_equal(y[test] != 3, split.y_test == 1)
    assert abs(split.y_test.mean() - 0.3) < 0.01
    assert not set(test) & set(split.X_train[:, -1].astype(int))
    assert len(split.X_train) + (split.y_test == 0).sum() == (y == 3).sum()
    again = one_class_split(X, y, 3, random_state=0)
    np.testing.assert_array_equal(split.X_test, again.X_test)


def test_digits_move_as_they_should():
    clips = make_moving_digits(n_clips=40, n_frames=8, size=16, random_state=0)
    assert clips.data.shape == (60, 1, 8, 16, 16) and clips.target.sum() == 20
    assert clips.data.min() == 0 and clips.data.max() == 1 and clips.data.dtype == np.float32
    mass = clips.data[:, 0].sum(axis=(2, 3))
    np.testing.assert_allclose(mass, mass[:, :1].repeat(8, axis=1), rtol=1e-5)  # a digit never leaves the frame
    across = np.abs(np.diff(np.argmax(clips.data[:, 0].any(axis=2), axis=-1), axis=1))  # steps of the left edge
    along = np.abs(np.diff(np.argmax(clips.data[:, 0].any(axis=3), axis=-1), axis=1))  # steps of the top edge
    assert (across[:40] == 1).all() and (along[:40] == 0).all()
    upright = (along == 1).all(axis=1)
    assert upright.sum() == 10 and clips.target[upright].all()
    np.testing.assert_array_equal(clips.data, make_moving_digits(40, random_state=0).data)


@pytest.mark.parametrize("normal", [[0, 1], 5])
def test_several_classes_can_be_normal(normal):
    X, y = load_digits(return_X_y=True)
    split = one_class_split(X, y, normal, test_size=0.5, outlier_share=0.1, random_state=0)
    assert abs(len(split.X_train) - np.isin(y, normal).sum() / 2) <= 1
