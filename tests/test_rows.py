"""Memories made of rows: members as an axis, no item answers its own row, honest scores, robust scaling."""

import numpy as np
import pytest
import torch
from sklearn.datasets import load_breast_cancer
from sklearn.metrics import roc_auc_score

from skmemae import MemAEDetector, datasets
from skmemae._data.layout import choose_layout
from skmemae._data.loader import Loader
from skmemae._data.scaling import Scaling
from skmemae._data.signatures import OwnItems, signatures
from skmemae._train.upkeep import RowItems
from skmemae.network import Memory, build_network
from tests.problems import detector

SPEC = {"backbone": "fc", "memory_size": 7, "similarity": "distance", "temperature": 0.1}


def network(members=3, **spec):
    """Members whose items are random encodings."""
    made = build_network((5,), **{**SPEC, "widths": (6, 2), **spec}, members=members)
    if made.memory is not None:
        torch.nn.init.normal_(made.memory.items, generator=torch.Generator().manual_seed(1))
    return made


def test_members_compute_what_each_would_alone():
    together, x = network(), torch.randn(11, 5, generator=torch.Generator().manual_seed(0))
    output = together.train()(x)
    assert output.reconstruction.shape == (3, 11, 5) and output.encoding.shape == (3, 11, 2 + 5)
    for i in range(3):
        alone = network(members=1)
        state = {name: value[i : i + 1].clone() for name, value in together.state_dict().items()}
        alone.load_state_dict(state)
        for found, expected in zip(output[:-1], alone.train()(x)[:-1], strict=True):
            torch.testing.assert_close(found[i : i + 1], expected)


def test_the_decoder_corrects_the_row_that_is_read_out():
    made, x = network(), torch.randn(4, 5)
    with torch.no_grad():
        for p in made.decoder.parameters():
            p.zero_()
    output = made(x)
    weights = made.memory.weights(made.queries(output.encoding))
    torch.testing.assert_close(output.reconstruction, weights @ made.memory.items[..., 2:])
    distances = torch.cdist(output.encoding[..., :2], made.memory.items[..., :2]).square() / 2
    torch.testing.assert_close(network(shrink_threshold=0).memory.weights(output.encoding), torch.softmax(-distances / 0.1, -1))


def test_without_a_memory_members_are_plain_autoencoders():
    made = network(memory_size=0)
    output = made(torch.randn(4, 5))
    assert made.memory is None and output.encoding.shape == (3, 4, 2) and output.reconstruction.shape == (3, 4, 5)


def test_distances_are_exact_far_from_zero():
    near, far = (Memory(4, 2, similarity="distance", shrink_threshold=0) for _ in range(2))
    items, query = torch.randn(4, 2), torch.randn(6, 2)
    near.load_state_dict({"items": items})
    far.load_state_dict({"items": items + 1000})
    torch.testing.assert_close(far.weights(query + 1000), near.weights(query), rtol=1e-2, atol=1e-4)


@pytest.mark.parametrize("heads", [1, 2])
def test_a_hidden_item_neither_answers_nor_learns(heads):
    memory = Memory(5, 4, heads=heads, members=2).train()
    torch.nn.init.normal_(memory.items, generator=torch.Generator().manual_seed(0))
    query = torch.randn(2, 3, 4, generator=torch.Generator().manual_seed(1)).requires_grad_()
    hidden = torch.tensor([[2, -1, 0], [-1, -1, 4]])
    weights = memory.weights(query.detach(), hidden)
    assert weights.shape == (2, 3, 5)
    assert weights[0, 0, 2] == weights[0, 2, 0] == weights[1, 2, 4] == 0
    torch.testing.assert_close(weights.sum(dim=-1), torch.ones(2, 3))
    torch.testing.assert_close(weights[hidden < 0], memory.weights(query.detach())[hidden < 0])
    read_out, entropy, _ = memory(query, hidden=hidden)
    without = Memory(4, 4, heads=heads, shrink_threshold=0.8).train()  # the same threshold
    without.load_state_dict({"items": memory.items[0, [0, 1, 3, 4]]})
    expected = without(query[0, :1])
    torch.testing.assert_close((read_out[0, :1], entropy[0, :1]), tuple(expected[:2]))
    (read_out[0, 0].sum() + entropy[0, 0]).backward()
    assert (memory.items.grad[0, 2] == 0).all() and (memory.items.grad[0] != 0).any()


def test_heads_are_for_items_that_are_compared_as_a_whole():
    with pytest.raises(ValueError, match="memory_heads=2 is for items that are compared in all their numbers"):
        Memory(5, 4, heads=2, key_width=2)


def row_items(made, scale=1.0):
    X = scale * np.random.default_rng(0).normal(size=(20, 5))
    layout = choose_layout((5,))
    loader = Loader(X, layout, Scaling(np.zeros(5), np.ones(5)), torch.device("cpu"))
    chosen = torch.stack([torch.randperm(20)[:7] for _ in range(3)])
    seen = signatures(loader.samples(torch.arange(20))).numpy()
    return RowItems(made, loader, chosen, OwnItems.of(seen[chosen.numpy()])), loader


def test_members_are_not_trained_on_the_last_of_their_items(rng):
    made, x = network().train(), torch.from_numpy(rng.normal(size=(20, 5))).float()
    items, loader = row_items(made)
    items.own = OwnItems(items.own.ascending, items.own.order, 5)
    x = loader.samples(torch.arange(20))
    own = items.own.find(x)
    output = items.forward(made, x)
    same = (output.reconstruction == x).all(dim=2)
    assert torch.equal(same, own >= 5)
    (output.reconstruction - x).abs().sum().backward()
    moved = items.examples.clone()
    moved[:, 5:] += 1  # what is not trained on does not answer either
    items.examples, before = moved, output.reconstruction
    torch.testing.assert_close(items.forward(made, x).reconstruction, before)


def test_who_was_not_trained_on_a_row_scores_it():
    own = OwnItems(np.zeros((3, 4), dtype=np.int64), np.zeros((3, 4), dtype=np.int64), 3)
    found = own.counting(torch.tensor([[-1, 3, 0], [-1, 1, 2], [-1, 3, -1]]))
    assert found.T.tolist() == [[True, True, True], [True, False, True], [True, True, True]]


def test_each_row_is_left_out_by_a_quarter_of_the_members(rng):
    X = rng.normal(size=(400, 3))
    det = detector(contamination=0.001).fit(X)
    own = det._model.own_items
    found = own.find(next(det._model._loader(X).chunks(400))[0])
    counting = own.counting(found).sum(dim=0)
    assert det.resolved_params_["ensemble_size"] == 10 and own.n_training == 300
    assert set(counting.tolist()) <= {2, 3} and (found >= 0).all()


def test_items_settle_at_the_encodings_of_their_rows():
    made = network()
    items, _ = row_items(made)
    items.end_epoch(0, None)
    torch.testing.assert_close(made.memory.items[..., 2:], items.examples)
    torch.testing.assert_close(made.memory.items, made.encoder(items.examples))


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e4])
def test_queries_are_brought_to_the_unit_of_the_temperature_whatever_the_unit_of_the_rows(scale):
    made = network(widths=(2,))
    torch.nn.init.zeros_(made.encoder.layers[-1].bias)
    items, _ = row_items(made, scale)
    items.fit_temperature()
    queries = made.encoder(items.examples)[..., :2]
    typical = (torch.cdist(queries, queries).square() / 2).mean(dim=(1, 2)) / 0.1
    assert (typical > 0.3).all() and (typical < 100).all()


def test_equal_rows_leave_the_unit_as_it_is():
    made = network()
    before = made.encoder.layers[-1].weight.clone()
    items, _ = row_items(made, 0.0)
    items.fit_temperature()
    assert torch.equal(before, made.encoder.layers[-1].weight)


def test_rows_of_the_training_data_are_scored_by_others_in_fit_and_after(table):
    X, _ = table
    det = detector().fit(X)
    np.testing.assert_array_equal(det.decision_function(X), det.decision_scores_)
    np.testing.assert_array_equal(det.predict(X), det.labels_)
    np.testing.assert_allclose(det.decision_function(X[40:45]), det.decision_scores_[40:45], rtol=1e-5)
    shown = det.decode_memory()[: det.resolved_params_["memory_size"]]  # of the first member
    weights = det.addressing_weights(X)[:, : len(shown)]
    own = det._model.own_items.find(next(det._model._loader(X).chunks(len(X)))[0])[0].numpy()
    assert (own >= 0).sum() > 0.8 * len(X)
    assert (weights[own >= 0, own[own >= 0]] == 0).all()


def test_a_row_that_is_nearly_one_of_the_training_data_is_answered_by_it(table):
    X, _ = table
    det = detector(contamination=0.001).fit(X)
    assert np.median(det.decision_function(X + 1e-6)) < 0.8 * np.median(det.decision_scores_)


def test_copies_answer_for_each_other(rng):
    X = rng.normal(size=(200, 4))
    X[100:110] = X[0] = 8.0
    det = detector(contamination=0.001, thin_repeats=False).fit(X)
    once = detector(contamination=0.001, thin_repeats=False).fit(X[:100])
    assert det.decision_scores_[0] < 0.5 * once.decision_scores_[0]


@pytest.mark.parametrize("dtype", [np.float64, np.float32, ">f8"])
def test_a_row_is_known_again_in_any_dtype(rng, dtype):
    X = rng.integers(-50, 50, size=(150, 4)).astype(np.float64)
    det = detector().fit(X)
    np.testing.assert_array_equal(det.decision_function(X.astype(dtype)), det.decision_scores_)


def test_new_normal_rows_are_flagged_about_as_often_as_asked():
    X, y = load_breast_cancer(return_X_y=True)
    shares = []
    for seed in range(5):
        split = datasets.clean_split(X, 1 - y, random_state=seed)
        det = MemAEDetector(contamination=0.1, random_state=seed).fit(split.X_train)
        shares.append(det.predict(split.X_test[split.y_test == 0]).mean())
    assert 0.08 < np.mean(shares) < 0.13


def test_contamination_says_how_many_rows_the_memory_leaves_out(rng):
    X = rng.normal(size=(400, 4))
    X[:30] = 6 + 0.3 * rng.normal(size=(30, 4))
    y = np.arange(400) < 30
    new = np.concatenate([6 + 0.3 * rng.normal(size=(30, 4)), rng.normal(size=(100, 4))])
    trusting, careful = (MemAEDetector(contamination=c, random_state=0).fit(X) for c in (0.001, 0.1))
    labels = np.arange(130) < 30
    assert roc_auc_score(labels, careful.decision_function(new)) > 0.99 > roc_auc_score(labels, trusting.decision_function(new))
    scores = careful.decision_function(new)
    np.testing.assert_array_equal(careful.set_threshold(0.2).decision_function(new), scores)
    assert careful.decision_scores_[y].min() > np.median(careful.decision_scores_[~y])


def test_a_wild_value_does_not_hide_the_outliers_of_its_column(rng):
    X, y = rng.normal(size=(600, 4)), np.zeros(600)
    X[:20, 0] += 6
    y[:20] = 1
    plain = roc_auc_score(y, MemAEDetector(random_state=0).fit(X).decision_scores_)
    X[300, 0] = -9999
    assert roc_auc_score(y, MemAEDetector(random_state=0).fit(X).decision_scores_) > plain - 0.02 > 0.9


def test_a_flag_that_was_never_set_is_more_abnormal_than_one_that_was_set_once(rng):
    X = np.column_stack([rng.normal(size=(500, 4)), np.zeros((500, 2))])
    X[7, 5] = 1
    none, never, once = np.zeros((3, 6))
    never[4] = once[5] = 1
    det = MemAEDetector(random_state=0).fit(X)
    scores = det.decision_function([none, once, never])
    assert scores[0] < det.threshold_ < scores[1] < scores[2]


@pytest.mark.parametrize("skew", [False, True])
def test_both_tails_of_a_single_column_are_found(rng, skew):
    X = rng.lognormal(size=(500, 1)) if skew else rng.normal(size=(500, 1))
    det = MemAEDetector(random_state=0).fit(X)
    low, middle, high = det.decision_function([[X.min() - 2], [np.median(X)], [X.max() + 2]])
    assert min(low, high) > det.threshold_ > middle


def test_a_row_of_triple_size_among_few_wide_ones_is_the_most_abnormal(rng):
    X = rng.normal(size=(40, 3000))
    X[3] *= 3
    assert MemAEDetector(random_state=0).fit(X).decision_scores_.argmax() == 3


def test_decoded_items_are_near_the_rows_that_they_are_made_of(rng):
    X = rng.normal(size=(150, 4))
    det = MemAEDetector(contamination=0.001, random_state=0).fit(X)
    decoded = det.decode_memory()
    rows = det.memory_[:, -4:] * det._model.scaling.scale + det._model.scaling.center
    assert decoded.shape == rows.shape and np.abs(decoded - rows).mean() < 0.3
    np.testing.assert_allclose(det.decode_memory([200, 3]), decoded[[200, 3]], rtol=1e-5, atol=1e-6)


def test_held_out_rows_stop_training_where_that_is_asked_for(rng):
    X = rng.normal(size=(200, 4))
    det = detector(validation_fraction=0.2, n_iter_no_change=2, tol=0.9, max_epochs=30).fit(X)
    assert det.n_iter_ == 3 and len(det.validation_curve_) == 3


@pytest.mark.parametrize("n", [2, 3, 5])
def test_few_rows_are_scored(n):
    det = MemAEDetector(random_state=0).fit(np.arange(2.0 * n).reshape(n, 2))
    assert np.isfinite(det.decision_scores_).all() and np.isfinite(det.decision_function([[1e6, -1e6]])).all()


@pytest.mark.parametrize("n, expected", [(100, (16, 90)), (1000, (4, 900)), (3000, (2, 2700)), (10_000, (1, 8000))])
def test_members_with_more_rows_in_their_memory_are_fewer(n, expected):
    params = detector(max_epochs=1).fit(np.random.default_rng(0).normal(size=(n, 2))).resolved_params_
    assert (params["ensemble_size"], params["memory_size"]) == expected
