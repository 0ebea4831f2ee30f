"""Which memory item is the sample that asks."""

import numpy as np
import pytest
import torch
from skmemae._data.signatures import OwnItems, signatures


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_equal_rows_have_equal_signatures_and_different_ones_do_not(dtype):
    x = torch.from_numpy(np.random.default_rng(0).integers(-3, 4, size=(20_000, 5)).astype(dtype))
    _, expected = np.unique(x.numpy(), axis=0, return_inverse=True)
    _, found = np.unique(signatures(x).numpy(), return_inverse=True)
    pairs = np.unique(np.stack([expected.ravel(), found]), axis=1)
    assert pairs.shape[1] == expected.max() + 1 == found.max() + 1 > 10_000
    assert (signatures(x) >= 0).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_signature_knows_the_order_of_columns_small_differences_and_no_sign_of_zero(dtype):
    x = torch.tensor([[1.0, 2.0], [2.0, 1.0], [1.0, 2.0000002], [0.0, 0.0], [-0.0, 0.0], [0.0, 1e-45]], dtype=dtype)
    found = signatures(x)
    assert found[3] == found[4] and len(found.unique()) == 5
    assert torch.equal(signatures(x.reshape(6, 1, 2)), found)


def test_a_sample_finds_the_items_that_are_made_of_it():
    x = torch.arange(12.0).reshape(6, 2)
    seen = signatures(x).numpy()
    own = OwnItems.of(np.stack([seen[[4, 0, 2]], seen[[1, 3, 0]]]))
    assert own.find(x).tolist() == [[1, -1, 2, -1, 0, -1], [2, 0, -1, 1, -1, -1]]
    assert own.to("cpu").find(x[:1] + 0.5).tolist() == [[-1], [-1]]


def test_items_that_stand_for_several_rows_belong_to_none():
    x = torch.arange(6.0).reshape(3, 2)
    own = OwnItems.of(signatures(x).numpy()[None], repeated=np.array([[False, True, False]]))
    assert own.find(x).tolist() == [[0, -1, 2]]
