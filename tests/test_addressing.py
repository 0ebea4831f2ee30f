"""Addressing, shrinkage and read-out by closed formulas: equations 3 to 9 and their gradients."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from skmemae.network import addressing as module
from skmemae.network.addressing import (
    AddressAndReadOut,
    _direction,
    hide,
    prepare_keys,
    prepare_queries,
    shrunk_softmax,
    usage,
)

MULTIPLES = [0, 1, 2, 3, 5]
OTHERS = [0], [0, 1, 3, 4, 5, 6, 7, 8], [0, 1, 3, 4, 5, 6, 7, 8]  # the first query, and all items but the third


@given(
    logits=st.lists(st.floats(-30, 30), min_size=2, max_size=12),
    multiple=st.floats(0, 6),
)
@settings(deadline=None, derandomize=True, max_examples=500)
def test_weights_are_a_distribution_whatever_the_logits(logits, multiple):
    logits = torch.tensor(logits, dtype=torch.float64)
    weights, log_sum = shrunk_softmax(logits.clone(), multiple / len(logits), True)
    assert (weights >= 0).all() and abs(float(weights.sum()) - 1) < 1e-9
    assert weights[logits.argmax()] == weights.max() > 0
    assert abs(float(log_sum - (logits - logits.max())[weights > 0].logsumexp(dim=0))) < 1e-9
    identity = torch.eye(len(logits), dtype=torch.float64)[None]
    read_out, entropy, mass = AddressAndReadOut.apply(
        logits[None, None], identity, identity, None, multiple / len(logits), True, True
    )
    assert torch.equal(read_out[0, 0], weights) and torch.equal(mass[0], weights)
    assert abs(float(entropy - torch.special.entr(weights).sum())) < 1e-9


def case(width=4, dtype=torch.float64):
    """Queries, keys and values of two heads: 5 queries, 9 items."""
    generator = torch.Generator().manual_seed(0)
    shapes = (2, 5, width), (2, 9, width), (2, 9, width - 1)
    return [torch.randn(shape, dtype=dtype, generator=generator).requires_grad_() for shape in shapes]


def printed(query, keys, values, threshold, keep_best):
    """Read-out, entropy and mass by equations 3 to 9, the shrinkage as a mask, for autograd."""
    logits = query @ keys.mT
    weights = torch.softmax(logits, dim=-1)
    kept = weights > threshold
    if keep_best:
        kept = kept | (weights == weights.amax(dim=-1, keepdim=True))
    weights = torch.where(kept, weights, 0.0)
    weights = weights / weights.sum(dim=-1, keepdim=True).clamp_min(1e-300)
    entropy = -(weights * torch.where(weights > 0, weights, 1.0).log()).sum(dim=-1)
    return weights @ values, entropy, weights.sum(dim=1)


@pytest.fixture(params=[2**24, 0], ids=["weights kept", "weights computed again"])
def kept_weights(request, monkeypatch):
    monkeypatch.setattr(module, "_KEPT_WEIGHTS", request.param)


@pytest.fixture(params=[2**18, 2 * 2 * 9, 1], ids=["one block", "blocks of two", "blocks of one"])
def block_weights(request, monkeypatch):
    monkeypatch.setitem(module._BLOCK_WEIGHTS, "cpu", request.param)


@pytest.mark.parametrize("multiple", MULTIPLES)
@pytest.mark.parametrize("keep_best", [True, False])
@pytest.mark.parametrize("width", [4, 20])  # BLAS is called in two ways
def test_results_and_gradients_are_those_of_the_printed_formulas(kept_weights, block_weights, multiple, keep_best, width):
    threshold = multiple / 9 if width == 4 else multiple / 900
    ours, plain = case(width), case(width)
    found = AddressAndReadOut.apply(*ours, None, threshold, keep_best, True)
    expected = printed(*plain, threshold, keep_best)
    torch.testing.assert_close(tuple(found), expected, rtol=1e-9, atol=1e-12)
    for read_out, entropy, _ in (found, expected):
        ((read_out * torch.arange(width - 1)).sum() + 0.7 * (entropy * torch.arange(5)).sum()).backward()
    torch.testing.assert_close([x.grad for x in ours], [x.grad for x in plain], rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("training", [True, False])
def test_gradients_are_those_of_finite_differences(kept_weights, block_weights, training):
    def answer(*factors):
        return AddressAndReadOut.apply(*factors, None, 1 / 9, True, training)[: 2 if training else 1]

    assert torch.autograd.gradcheck(answer, case(), atol=1e-4)


def test_weights_are_kept_for_the_backward_pass_if_they_are_few(monkeypatch):
    calls = []
    monkeypatch.setattr(module, "shrunk_softmax", lambda *args: calls.append(1) or shrunk_softmax(*args))
    for most, expected in ((90, 1), (89, 2)):  # there are 2 x 5 x 9
        monkeypatch.setattr(module, "_KEPT_WEIGHTS", most)
        calls.clear()
        AddressAndReadOut.apply(*case(), None, 1 / 9, True, True)[0].sum().backward()
        assert len(calls) == expected


def test_a_direction_has_length_one_and_the_gradient_across():
    vectors = torch.randn(5, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).requires_grad_()
    torch.testing.assert_close(_direction(vectors).norm(dim=1), torch.ones(5, dtype=torch.float64))
    assert torch.autograd.gradcheck(_direction, vectors)
    zero = torch.zeros(2, 4, requires_grad=True)
    _direction(zero).sum().backward()
    assert (_direction(zero) == 0).all() and torch.isfinite(zero.grad).all()


def test_a_hidden_item_neither_answers_nor_learns(kept_weights, block_weights):
    query, keys, values = case()
    hidden = torch.tensor([[2, -1, 0, -1, 8], [-1] * 5])
    read_out, entropy, _ = AddressAndReadOut.apply(query, keys, values, hidden, 0.0, True, True)
    alone = [factor.detach()[:1, rows].clone().requires_grad_() for factor, rows in zip(case(), OTHERS, strict=True)]
    expected = AddressAndReadOut.apply(*alone, None, 0.0, True, True)
    torch.testing.assert_close((read_out[:1, :1], entropy[:1, :1]), tuple(expected[:2]))
    (read_out[0, 0].sum() + entropy[0, 0]).backward()
    (expected[0].sum() + expected[1].sum()).backward()
    for found, wanted in ((keys, alone[1]), (values, alone[2])):
        assert (found.grad[0, 2] == 0).all()
        torch.testing.assert_close(found.grad[:1, OTHERS[1]], wanted.grad)
    torch.testing.assert_close(query.grad[0, 0], alone[0].grad[0, 0])


def test_hiding_takes_one_item_of_each_row_out_of_the_softmax():
    logits = torch.zeros(1, 3, 4)
    weights = torch.softmax(hide(logits, torch.tensor([[7, 3, -1, 0]]), start=1), dim=-1)
    torch.testing.assert_close(weights[0], torch.tensor([[1 / 3, 1 / 3, 1 / 3, 0], [0.25] * 4, [0, 1 / 3, 1 / 3, 1 / 3]]))


@pytest.mark.parametrize("similarity", ["cosine", "dot", "distance"])
def test_prepared_factors_multiply_to_the_similarity_of_equation_5(similarity):
    query, keys, _ = (factor.detach() for factor in case())
    found = prepare_queries(query, prepare_keys(keys, similarity, 0.5), similarity, 0.5) @ (
        prepare_keys(keys, similarity, 0.5).factors.mT
    )
    expected = {
        "cosine": torch.cosine_similarity(query.unsqueeze(2), keys.unsqueeze(1), dim=-1),
        "dot": query @ keys.mT,
        "distance": -torch.cdist(query, keys).square() / 4,
    }[similarity]
    difference = found - expected / 0.5
    assert (difference - difference.mean(dim=-1, keepdim=True)).abs().max() < 1e-9  # up to a number of each query's own


def test_distances_far_from_zero_lose_no_more_digits_than_float32_has():
    query, keys = torch.randn(1, 6, 2), torch.randn(1, 4, 2)

    def weights(offset):
        prepared = prepare_keys(keys + offset, "distance", 1.0)
        return torch.softmax(prepare_queries(query + offset, prepared, "distance", 1.0) @ prepared.factors.mT, dim=-1)

    torch.testing.assert_close(weights(1000.0), weights(0.0), rtol=1e-2, atol=1e-4)


def test_half_precision_is_compared_in_single_precision():
    keys = prepare_keys(torch.randn(1, 4, 2).bfloat16(), "cosine", 1.0)
    assert keys.factors.dtype == torch.float32
    assert prepare_queries(torch.randn(1, 3, 2).half(), keys, "cosine", 1.0).dtype == torch.float32


def test_usage_counts_what_is_above_the_threshold_and_does_not_take_rounding_for_a_miss():
    logits = torch.log(torch.tensor([[0.7, 0.2, 0.1], [0.4, 0.3, 0.3]]))
    used, missed, _ = usage(logits.clone(), 0.5, True)
    assert used.tolist() == [[True, False, False]] * 2 and missed.tolist() == [False, True]
    assert not usage(torch.full((1, 7), 0.1), 1 / 7, True).missed.any()  # all weights are the threshold but for rounding


def test_the_effective_number_of_items_is_one_for_a_single_item_and_k_for_k_equal_ones():
    logits = torch.log(torch.tensor([[1.0, 0, 0, 0], [0.5, 0.5, 0, 0], [0.25, 0.25, 0.25, 0.25], [0.5, 0.25, 0.25, 0]]))
    torch.testing.assert_close(usage(logits, 0.0, True).effective, torch.tensor([1.0, 2, 4, 2**1.5]))
