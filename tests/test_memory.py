"""Equations 3 to 9, the guards, and the failure that the guards prevent."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from skmemae.network import Memory, build_network
from skmemae.network import memory as module
from skmemae.network.memory import AddressAndReadOut, Answer, _direction, shrunk_softmax

MULTIPLES = [0, 1, 2, 3, 5]


def filled(size=50, width=16, seed=0, **params):
    memory = Memory(size, width, **params)
    torch.nn.init.normal_(memory.items, generator=torch.Generator().manual_seed(seed))
    return memory


def equation_7(weights, threshold, eps=1e-12):
    """The relu quotient as printed, renormalised, in the weights' own precision."""
    shrunk = torch.relu(weights - threshold) * weights / ((weights - threshold).abs() + eps)
    return shrunk / shrunk.abs().sum(dim=-1, keepdim=True).clamp_min(eps)


@pytest.mark.parametrize("multiple", MULTIPLES)
@pytest.mark.parametrize("similarity", ["cosine", "dot"])
@pytest.mark.parametrize("temperature", [1.0, 0.05])
@pytest.mark.parametrize("autocast", [False, True])
def test_every_row_of_weights_sums_to_one(multiple, similarity, temperature, autocast):
    memory = filled(similarity=similarity, temperature=temperature, shrink_threshold=multiple)
    query = torch.randn(64, 16, generator=torch.Generator().manual_seed(1))
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
        weights = memory.weights(query)
    assert weights.dtype == torch.float32
    assert (weights >= 0).all()
    torch.testing.assert_close(weights.sum(dim=-1), torch.ones(64), rtol=0, atol=1e-5)


@pytest.mark.parametrize("multiple", [1, 2, 3])
def test_the_mask_agrees_with_the_published_quotient_away_from_the_threshold(multiple):
    memory = filled(size=20, temperature=0.1, shrink_threshold=multiple).double()
    query = torch.randn(500, 16, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    plain = torch.softmax(memory.logits(query)[0], dim=-1)
    distance = (plain - memory.threshold).abs().amin(dim=-1)
    clear = (distance > 1e-6) & (plain.amax(dim=-1) > memory.threshold)
    assert clear.sum() > 400
    expected = equation_7(plain, memory.threshold)
    torch.testing.assert_close(memory.weights(query)[clear], expected[clear], rtol=0, atol=1e-5)


def test_the_published_quotient_has_the_gradient_of_a_cliff():
    """One unit in the last place above lambda; the mask has the gradient 1 there."""
    threshold = torch.tensor(0.0025)
    weight = torch.nextafter(threshold, torch.tensor(1.0)).requires_grad_()
    (torch.relu(weight - threshold) * weight / ((weight - threshold).abs() + 1e-12)).backward()
    assert weight.grad.abs() > 10_000


@pytest.mark.parametrize("size, width", [(100, 1024), (500, 1024), (2000, 256)])
def test_at_temperature_one_random_items_can_hardly_be_told_apart(size, width):
    """The paper's settings: the largest of N weights is about 1.25/N at most."""
    memory = filled(size, width)
    query = torch.randn(64, width, generator=torch.Generator().manual_seed(1))
    assert size * float(torch.softmax(memory.logits(query).detach(), dim=-1).amax(dim=-1).mean()) < 1.27


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


def test_outside_training_there_is_a_read_out_alone():
    answer = filled().eval()(torch.randn(3, 16))
    assert isinstance(answer, Answer) and answer.read_out.shape == (3, 16) and answer.entropy is None and answer.mass is None


def test_a_direction_has_length_one_and_the_gradient_across():
    vectors = torch.randn(5, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).requires_grad_()
    torch.testing.assert_close(_direction(vectors).norm(dim=1), torch.ones(5, dtype=torch.float64))
    assert torch.autograd.gradcheck(_direction, vectors)
    zero = torch.zeros(2, 4, requires_grad=True)
    _direction(zero).sum().backward()
    assert (_direction(zero) == 0).all() and torch.isfinite(zero.grad).all()


@pytest.mark.parametrize("positions", [(), (4, 3)])
@pytest.mark.parametrize("multiple", [0, 1, 3])
def test_use_says_which_items_a_sample_uses_and_how_many_queries_miss_the_threshold(positions, multiple):
    memory = filled(heads=2, temperature=0.5, shrink_threshold=multiple)
    query = torch.randn(6, 16, *positions, generator=torch.Generator().manual_seed(1))
    used, missed = memory.use(query)
    for i in range(6):
        places = query[i].reshape(16, -1).T  # (positions, C)
        plain = torch.softmax(memory.logits(places), dim=-1)  # (heads, positions, N)
        above = plain > memory.threshold
        best = plain == plain.amax(dim=-1, keepdim=True)
        torch.testing.assert_close(used[i], (above | best).any(dim=0).float().mean(dim=0))
        torch.testing.assert_close(missed[i], (~above.any(dim=-1)).float().mean())


def test_equal_items_do_not_miss_the_threshold():
    """All weights are 1/N then, which is the threshold but for rounding."""
    memory = Memory(7, 4)
    torch.nn.init.ones_(memory.items)
    assert (memory.use(torch.randn(20, 4))[1] == 0).all()


def test_cosine_is_bounded_and_ignores_length_and_dot_does_not():
    query = torch.randn(8, 16, generator=torch.Generator().manual_seed(1))
    cosine, dot = filled(similarity="cosine"), filled(similarity="dot")
    assert cosine.logits(100 * query).abs().max() <= 1 + 1e-6
    torch.testing.assert_close(cosine.logits(query), cosine.logits(7 * query))
    torch.testing.assert_close(dot.logits(7 * query), 7 * dot.logits(query))


def test_a_lower_temperature_and_a_higher_threshold_keep_fewer_items():
    query = torch.randn(64, 16, generator=torch.Generator().manual_seed(1))

    def kept(**params):
        return float((filled(**params).weights(query) > 0).float().sum(dim=-1).mean())

    assert kept(shrink_threshold=0) == 50
    assert kept(temperature=1.0) > kept(temperature=0.2) > kept(temperature=0.05)
    assert kept(temperature=0.2, shrink_threshold=1) > kept(temperature=0.2, shrink_threshold=3)


@pytest.mark.parametrize("positions", [(), (5,), (4, 3), (2, 3, 4)])
def test_any_rank_gives_what_the_flat_queries_give(positions):
    memory = filled()
    query = torch.randn(2, 16, *positions, generator=torch.Generator().manual_seed(1))
    read_out, entropy, mass = memory(query)
    weights = memory.weights(query)
    assert read_out.shape == query.shape and weights.shape == (2, *positions, 50) and entropy.shape == (2, *positions)
    flat = query.movedim(1, -1).reshape(-1, 16)
    torch.testing.assert_close(weights.reshape(-1, 50), memory.weights(flat))
    torch.testing.assert_close(read_out.movedim(1, -1).reshape(-1, 16), memory(flat).read_out)
    torch.testing.assert_close(mass, weights.reshape(-1, 50).sum(dim=0))


def test_heads_answer_each_for_its_part():
    memory = filled(heads=4, temperature=0.2)
    query = torch.randn(6, 16, 5, generator=torch.Generator().manual_seed(1))
    whole = memory(query)
    parts = []
    for head in range(4):
        columns = slice(4 * head, 4 * head + 4)
        alone = Memory(50, 4, temperature=0.2)
        alone.items.data = memory.items.data[:, columns]
        parts.append(alone(query[:, columns]))
    torch.testing.assert_close(whole.read_out, torch.cat([part.read_out for part in parts], dim=1))
    torch.testing.assert_close(whole.mass, torch.stack([part.mass for part in parts]).mean(dim=0))
    torch.testing.assert_close(whole.entropy, torch.stack([part.entropy for part in parts]).mean(dim=0))
    with pytest.raises(ValueError, match="memory_heads=3 does not divide .* 16"):
        Memory(50, 16, heads=3)


def test_a_zero_query_has_finite_weights_and_gradients():
    memory = filled()
    query = torch.zeros(3, 16, requires_grad=True)
    read_out, entropy, mass = memory(query)
    (read_out.square().sum() + entropy.sum()).backward()
    assert torch.isfinite(mass).all() and torch.isfinite(query.grad).all() and torch.isfinite(memory.items.grad).all()


@pytest.mark.parametrize("multiple", MULTIPLES)
@pytest.mark.parametrize("similarity", ["cosine", "dot"])
@pytest.mark.parametrize("autocast", [False, True])
def test_gradients_reach_encoder_memory_and_decoder_from_the_first_step(multiple, similarity, autocast):
    for shape, family, widths in [
        ((5,), "fc", (8, 4)),
        ((1, 8, 8), "conv2d", (8, 6)),
        ((1, 4, 8, 8), "conv3d", (8, 6)),
    ]:
        network = build_network(shape, family, widths, memory_size=30, similarity=similarity, shrink_threshold=multiple).train()
        x = torch.randn(16, *shape, generator=torch.Generator().manual_seed(1))
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
            output = network(x)
        ((output.reconstruction.float() - x).square().sum() + output.entropy.sum()).backward()
        for part in (network.encoder, network.memory, network.decoder):
            gradients = [p.grad for p in part.parameters()]
            assert all(torch.isfinite(g).all() for g in gradients)
            # A single item that answers alone passes nothing back to the query but what the entropy says.
            if part is not network.encoder or multiple < 2:
                assert max(float(g.abs().max()) for g in gradients) > 0, (multiple, family)


@pytest.mark.parametrize("size, width", [(100, 1024), (500, 1024), (2000, 256)])
def test_without_the_guards_the_published_formula_dies_at_three_over_n(size, width):
    """The paper's three convolutional settings at the upper end of its range for lambda, memory as released."""
    dead = Memory(size, width, shrink_threshold=3.0, keep_best=False)
    torch.nn.init.uniform_(dead.items, -(width**-0.5), width**-0.5, generator=torch.Generator().manual_seed(0))
    query = torch.randn(64, width, generator=torch.Generator().manual_seed(1)).requires_grad_()
    read_out, entropy, mass = dead(query)
    assert (mass == 0).all() and (entropy == 0).all()  # the loss looks fine, and nothing is retrieved
    (read_out.square().sum() + entropy.sum()).backward()
    assert (query.grad == 0).all() and (dead.items.grad == 0).all()
    dead.keep_best = True
    query.grad = dead.items.grad = None
    torch.testing.assert_close(dead.weights(query).sum(dim=-1), torch.ones(64))
    dead(query).read_out.square().sum().backward()
    assert dead.items.grad.abs().max() > 0


def test_one_item_answers_everything():
    weights = filled(size=1).weights(torch.randn(4, 16))
    assert (weights == 1).all()


def test_a_memory_says_what_it_is():
    settings = "similarity='cosine', temperature=0.5, shrink_threshold=1.0, heads=1"
    assert repr(Memory(5, 4, temperature=0.5)) == f"Memory(size=5, width=4, {settings})"
    assert "temperature=1.0, shrink_threshold=1.0" in repr(Memory(5, 4)) + repr(build_network((4,), "fc", (3,), memory_size=5))
    assert repr(Memory(5, 4, members=2, key_width=3)).startswith("Memory(members=2, size=5, width=4, ")
