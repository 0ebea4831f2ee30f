"""Memories of learned items and of rows: answers, weights, use, and keys that are prepared once."""

import copy
import pickle

import pytest
import torch

from skmemae.network import Answer, Memory, RowMemory, build_network
from skmemae.network.addressing import prepare_keys

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


def test_outside_training_there_is_a_read_out_alone():
    answer = filled().eval()(torch.randn(3, 16))
    assert isinstance(answer, Answer) and answer.read_out.shape == (3, 16) and answer.entropy is None and answer.mass is None


@pytest.mark.parametrize("positions", [(), (4, 3)])
@pytest.mark.parametrize("multiple", [0, 1, 3])
def test_use_says_which_items_a_sample_uses_and_how_many_queries_miss_the_threshold(positions, multiple):
    memory = filled(heads=2, temperature=0.5, shrink_threshold=multiple)
    query = torch.randn(6, 16, *positions, generator=torch.Generator().manual_seed(1))
    used, missed, effective = memory.use(query)
    for i in range(6):
        places = query[i].reshape(16, -1).T  # (positions, C)
        plain = torch.softmax(memory.logits(places), dim=-1)  # (heads, positions, N)
        above = plain > memory.threshold
        best = plain == plain.amax(dim=-1, keepdim=True)
        torch.testing.assert_close(used[i], (above | best).any(dim=0).float().mean(dim=0))
        torch.testing.assert_close(missed[i], (~above.any(dim=-1)).float().mean())
        kept = torch.where(above | best, plain, 0.0)
        entropy = torch.special.entr(kept / kept.sum(dim=-1, keepdim=True)).sum(dim=-1)
        torch.testing.assert_close(effective[i], entropy.exp().mean())


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
    with pytest.raises(ValueError, match="3 memory heads do not divide the width of a memory item, which is 16"):
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


@pytest.mark.parametrize("size, width", [(100, 1024), (2000, 256)])
def test_without_the_guards_the_published_formula_dies_at_three_over_n(size, width):
    """Two of the paper's convolutional settings at the upper end of its range for lambda, memory as released."""
    dead = Memory(size, width, shrink_threshold=3.0)
    dead.keep_best = False
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
    settings = "similarity='cosine', temperature=0.5, shrink_threshold=1.0"
    assert repr(Memory(5, 4, temperature=0.5)) == f"Memory(size=5, {settings}, width=4, heads=1)"
    assert "temperature=1.0, shrink_threshold=1.0" in repr(build_network((4,), "fc", (3,), memory_size=5))
    rows = repr(RowMemory(2, 5, 3, 4, similarity="cosine", temperature=0.5))
    assert rows == f"RowMemory(members=2, size=5, {settings}, key_width=3)"


def rows_memory(members=3, size=7, **params):
    """A memory of rows of five numbers with keys of two."""
    memory = RowMemory(members, size, 2, 5, **{"temperature": 0.1, **params})
    for number, part in enumerate((memory.keys, memory.rows)):
        torch.nn.init.normal_(part, generator=torch.Generator().manual_seed(number))
    return memory


def some_queries(members=3, n=11):
    return torch.randn(members, n, 2, generator=torch.Generator().manual_seed(2))


def test_members_of_a_memory_of_rows_answer_as_each_would_alone():
    together, query = rows_memory().train(), some_queries()
    answer = together(query)
    assert answer.read_out.shape == (3, 11, 7) and answer.entropy.shape == (3, 11) and answer.mass.shape == (3, 7)
    for i in range(3):
        alone = rows_memory(members=1).train()
        alone.load_state_dict({name: value[i : i + 1] for name, value in together.state_dict().items()})
        torch.testing.assert_close(tuple(part[i : i + 1] for part in answer), tuple(alone(query[i : i + 1])))


@pytest.mark.parametrize("multiple", MULTIPLES)
def test_rows_are_weighed_by_the_distances_of_their_keys(multiple):
    memory, query = rows_memory(shrink_threshold=multiple), some_queries()
    plain = torch.softmax(-torch.cdist(query, memory.keys).square() / 2 / 0.1, dim=-1)
    kept = (plain > multiple / 7) | (plain == plain.amax(dim=-1, keepdim=True))
    expected = torch.where(kept, plain, 0.0)
    expected = expected / expected.sum(dim=-1, keepdim=True)
    torch.testing.assert_close(memory.weights(query), expected)
    torch.testing.assert_close(memory(query).read_out, expected @ torch.cat([memory.keys, memory.rows], dim=-1))
    used, missed, effective = memory.use(query)
    torch.testing.assert_close(effective, torch.special.entr(expected).sum(dim=-1).exp())
    assert torch.equal(used, kept.float()) and torch.equal(missed, (plain.amax(dim=-1) < multiple / 7).float())


def test_an_item_that_is_hidden_from_a_query_has_no_weight_and_no_use_for_it():
    memory, query = rows_memory().eval(), some_queries(n=3)
    hidden = torch.tensor([[2, -1, 0], [-1, -1, 4], [-1, -1, -1]])
    weights = memory.weights(query, hidden)
    assert weights[0, 0, 2] == weights[0, 2, 0] == weights[1, 2, 4] == 0
    torch.testing.assert_close(weights.sum(dim=-1), torch.ones(3, 3))
    torch.testing.assert_close(weights[hidden < 0], memory.weights(query)[hidden < 0])
    items = torch.cat([memory.keys, memory.rows], dim=-1)
    torch.testing.assert_close(memory(query, hidden=hidden).read_out, weights @ items)
    assert torch.equal(memory.use(query, hidden)[0] > 0, weights > 0)


def test_examples_answer_in_place_of_the_rows_and_pass_a_gradient_to_their_keys():
    memory, query = rows_memory().train(), some_queries()
    keys, rows = torch.randn(3, 4, 2).requires_grad_(), torch.randn(3, 4, 5)
    answer = memory(query, (keys, rows))
    other = RowMemory(3, 4, 2, 5, temperature=0.1, shrink_threshold=4 / 7).train()  # the same threshold
    other.load_state_dict({"keys": keys.detach(), "rows": rows})
    torch.testing.assert_close(tuple(answer), tuple(other(query)))
    answer.read_out.sum().backward()
    assert (keys.grad != 0).any()


def learned():
    return filled(size=6, width=4, temperature=0.2), torch.randn(5, 4, generator=torch.Generator().manual_seed(1))


def of_rows():
    return rows_memory(), some_queries()


def fresh_answer(memory, query):
    """The answer of a memory that has never answered before."""
    again = pickle.loads(pickle.dumps(memory)).eval()
    with torch.no_grad():
        return again(query).read_out


def by_a_step_of_an_optimiser(memory):
    """A fused step leaves no trace at a parameter that it has moved."""
    tensors = list(memory.state_dict(keep_vars=True).values())
    optimiser = torch.optim.Adam([tensor.requires_grad_() for tensor in tensors], lr=0.5, fused=True)
    for tensor in tensors:
        tensor.grad = torch.randn(tensor.shape, generator=torch.Generator().manual_seed(3))
    optimiser.step()
    optimiser.zero_grad()


def by_training(memory):
    memory.train()
    by_a_step_of_an_optimiser(memory)
    memory.eval()


def by_load_state_dict(memory):
    memory.load_state_dict(other_numbers(memory))


def by_an_assigning_load(memory):
    for _ in range(2):  # the second may lie where the first tensors did
        memory.load_state_dict(other_numbers(memory), assign=True)


@torch.no_grad()
def by_copy(memory):
    for tensor in memory.state_dict(keep_vars=True).values():
        tensor.copy_(torch.randn(tensor.shape))


def by_data(memory):
    for tensor in memory.state_dict(keep_vars=True).values():
        tensor.data = torch.randn(tensor.shape)


def by_to(memory):
    memory.to(torch.float64)


def other_numbers(memory):
    return {name: torch.randn(value.shape) for name, value in memory.state_dict().items()}


CHANGES = [by_a_step_of_an_optimiser, by_training, by_load_state_dict, by_an_assigning_load, by_copy, by_data, by_to]


@pytest.mark.parametrize("kind", [learned, of_rows])
@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_a_memory_in_evaluation_mode_answers_by_its_items_of_the_moment(kind, change, mode):
    memory, query = kind()
    memory.eval()
    with mode():
        before = memory(query).read_out.clone()
    change(memory)
    query = query.double() if change is by_to else query
    with mode():
        after = memory(query).read_out
    assert change is by_to or not torch.allclose(after, before, atol=1e-3)
    assert torch.equal(after, fresh_answer(memory, query))


def test_rows_that_were_moved_in_inference_mode_answer():
    memory, query = of_rows()
    with torch.inference_mode():
        memory.eval().to(torch.float64)
        assert torch.equal(memory(query).read_out, memory(query).read_out)


def test_keys_of_rows_are_prepared_once_in_evaluation_mode_and_always_in_training_or_with_gradients(monkeypatch):
    calls, (memory, query) = [], of_rows()
    monkeypatch.setattr("skmemae.network.memory.prepare_keys", lambda *args: calls.append(1) or prepare_keys(*args))
    memory.eval()
    with torch.no_grad():
        for _ in range(3):
            memory(query), memory.weights(query), memory.use(query)
    assert len(calls) == 1
    memory(query), memory(query)
    memory.train()(query)
    assert len(calls) == 4


def test_copies_and_pickles_of_a_memory_hold_no_prepared_keys():
    memory, query = of_rows()
    memory.eval()
    with torch.no_grad():
        memory(query)
    assert len(pickle.dumps(memory)) == len(pickle.dumps(of_rows()[0].eval()))
    for again in (copy.deepcopy(memory), pickle.loads(pickle.dumps(memory))):
        assert memory._cache and not again._cache
        with torch.no_grad():
            assert torch.equal(again(query).read_out, memory(query).read_out)
