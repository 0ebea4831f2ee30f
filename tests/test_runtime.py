"""Devices and precision."""

import pytest
import torch

from skmemae.engine.runtime import resolve_device, training_precision


def test_auto_is_the_accelerator_or_the_cpu():
    expected = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else torch.device("cpu")
    assert resolve_device("auto") == expected
    assert resolve_device("cpu") == torch.device("cpu")


@pytest.mark.parametrize("device", ["abacus", "cuda:99", "cpu:x", "meta", ""])
def test_what_cannot_be_used_is_named(device):
    with pytest.raises(ValueError, match=f"'device' parameter is '{device}'"):
        resolve_device(device)


@pytest.mark.parametrize(
    "precision, dtype", [("auto", torch.float32), ("float32", torch.float32), ("bfloat16", torch.bfloat16)]
)
def test_precision_of_a_matrix_product_in_training(precision, dtype):
    with training_precision(precision, torch.device("cpu")):
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == dtype
