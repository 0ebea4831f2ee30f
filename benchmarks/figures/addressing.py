"""The memory's own autograd function beside the same equations in plain torch: what it takes, and what it gives."""

import copy
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from statistics import median
from typing import NamedTuple

import torch
from torch import Tensor, nn

from figures import in_turns, row, seconds
from figures.memory import peak_bytes
from figures.training import ALPHA, made_network, noise
from skmemae import MemAEDetector
from skmemae._train.loop import objective
from skmemae._train.optimiser import Adam
from skmemae.network import Answer
from skmemae.network.memory import AddressAndReadOut

WIDTH, ITEMS, TEMPERATURE = 256, 2000, 0.05
CHECKED = 12_000  # queries; for so many the backward pass computes the weights again
_GIB = 2**30
_PLAIN_QUERIES = 20_000  # that plain torch is given on the CPU: for 10^6 it would need 70 GiB
_PLAIN_BYTES = 12 * 4 * ITEMS  # that it needs of a GPU for a query, more rather than less
_WARM_UP = 200


class Inputs(NamedTuple):
    """What is addressed, and the gradients that come back."""

    query: Tensor  # (1, Q, WIDTH), over the temperature
    keys: Tensor  # (1, ITEMS, WIDTH)
    values: Tensor  # (1, ITEMS, WIDTH)
    read_out_grad: Tensor  # (1, Q, WIDTH)
    entropy_grad: Tensor  # (1, Q)

    def take(self, rows) -> "Inputs":
        """Of some queries."""
        return Inputs(self.query[:, rows], self.keys, self.values, self.read_out_grad[:, rows], self.entropy_grad[:, rows])


def block_wise(query, keys, values, threshold):
    """As the package does it."""
    return AddressAndReadOut.apply(query, keys, values, threshold, True, True)


def plain(query, keys, values, threshold):
    """The same in plain torch: equations 4, 6, 7 and 9, the mask in place of the relu quotient, the best weight kept."""
    weights = torch.softmax(query @ keys.mT, dim=-1)
    weights = weights * ((weights > threshold) | (weights == weights.amax(dim=-1, keepdim=True)))
    weights = weights / weights.sum(dim=-1, keepdim=True)
    # The gradient of entr is infinite at zero.
    entropy = torch.special.entr(weights.clamp_min(torch.finfo(weights.dtype).tiny)).sum(dim=-1)
    return weights @ values, entropy, weights.detach().sum(dim=1).mean(dim=0)


WAYS = {"block-wise": block_wise, "plain torch": plain}


def addressing(args):
    """Peak memory and seconds of both for ``--queries`` queries, their errors, and both in a training step of a table."""
    queries = int(args.queries)
    few = min(queries, _plain_queries(args.device))
    measured = [_apart(name, n, args) for name, n in zip(WAYS, (queries, few), strict=True)]
    scaled = f", measured for {few:,} and times {queries / few:g}" if few < queries else ""
    (ours_bytes, ours_seconds), (plain_bytes, plain_seconds) = measured
    plain_bytes, plain_seconds = (value * queries / few for value in (plain_bytes, plain_seconds))
    what = f"addressing, {queries:,} queries of width {WIDTH}, {ITEMS:,} items:"
    rows = [
        row(f"{what} peak memory, block-wise", ours_bytes / _GIB, "GiB", ""),
        row(f"{what} peak memory, plain torch{scaled}", plain_bytes / _GIB, "GiB", ""),
        row(f"{what} memory of block-wise addressing over plain{scaled}", ours_bytes / plain_bytes, "times", "<= 0.1"),
        row(f"{what} forward and backward, block-wise", ours_seconds, "s", "", seconds=ours_seconds),
        row(f"{what} forward and backward, plain torch{scaled}", plain_seconds, "s", "", seconds=plain_seconds),
    ]
    n, errors = largest_errors(min(queries, CHECKED), args.device)
    for name, error in errors.items():
        told = f"addressing, {n:,} queries: largest error beside float64, {name}"
        rows.append(row(told, error, "of the largest value", "< 1e-4"))
    return [*rows, _training_step(args)]


def _plain_queries(device):
    """How many queries plain torch is given: a number that is scaled on the CPU, what fits on a GPU."""
    if torch.device(device).type != "cuda":
        return _PLAIN_QUERIES
    return max(_PLAIN_QUERIES, torch.cuda.mem_get_info()[0] // _PLAIN_BYTES)


def _apart(name, queries, args):
    """What :func:`measure` gives, from a process of its own."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as process:
        return process.submit(measure, name, queries, args.device, args.repeats).result()


def measure(name, queries, device, repeats):
    """Bytes beyond the inputs and median seconds of one way; in a process in which nothing larger has run."""
    way, inputs = WAYS[name], draw(queries, device)
    step(way, inputs.take(slice(_WARM_UP)))
    took = []
    peak = peak_bytes(lambda: took.extend(seconds(lambda: step(way, inputs)) for _ in range(repeats)), device)
    return peak, median(took)


def draw(queries, device):
    """Random inputs, made in place, so that making them takes no more than they do."""
    generator = torch.Generator(device).manual_seed(0)

    def normal(n):
        return torch.randn(1, n, WIDTH, device=device, generator=generator)

    query, keys, values, grad = normal(queries), normal(ITEMS), normal(ITEMS), normal(queries)
    for vectors, length in ((query, 1 / TEMPERATURE), (keys, 1.0)):
        vectors *= length / torch.linalg.vector_norm(vectors, dim=-1, keepdim=True)
    return Inputs(query, keys, values, grad, torch.ones(1, queries, device=device))


def step(way, inputs):
    """Forward and backward: read-out, entropy, and the gradients of query, keys and values."""
    leaves = [tensor.detach().requires_grad_() for tensor in inputs[:3]]
    read_out, entropy, _ = way(*leaves, 1 / ITEMS)
    torch.autograd.backward([read_out, entropy], inputs[3:])
    if read_out.is_cuda:
        torch.cuda.synchronize()
    return [read_out.detach(), entropy.detach(), *(leaf.grad for leaf in leaves)]


def largest_errors(queries, device):
    """How many queries were compared, and the largest error of each way beside plain torch in float64, of the largest value.

    Queries with a weight so near the threshold that rounding decides about it are left out: both answers are right.
    """
    inputs = draw(queries, device)
    weights = torch.softmax(inputs.query.double() @ inputs.keys.double().mT, dim=-1)
    inputs = inputs.take(((weights * ITEMS - 1).abs() > 1e-4).all(dim=-1).squeeze(0))
    del weights
    exact = step(plain, Inputs(*(tensor.double() for tensor in inputs)))
    errors = {}
    for name, way in WAYS.items():
        pairs = zip(step(way, inputs), exact, strict=True)
        errors[name] = max(float((found - right).abs().max() / right.abs().max()) for found, right in pairs)
    return inputs.query.shape[1], errors


def _training_step(args):
    """Seconds of a step with plain addressing over those of one as it is: what the autograd function is kept for."""
    ours, theirs = training_steps(args.device)
    mine, plain_seconds = in_turns(3 * args.repeats, *[lambda s=s: [s() for _ in range(50)] for s in (ours, theirs)])
    what = "training step of a table (30-64-15, batch 1024, 100 items), plain autograd over AddressAndReadOut"
    return row(what, plain_seconds / mine, "times", ">= 1.2", seconds=mine / 50, reference=plain_seconds / 50)


def training_steps(device):
    """Two functions that train equal networks for a step and return the loss, one as it is, one with plain addressing."""
    X = noise((1024, 30))
    detector = MemAEDetector(
        widths=(64, 15), memory_size=100, memory_heads=1, batch_size=1024, ensemble_size=1, random_state=0, device=device
    )
    network = made_network(detector, X).train()
    theirs = copy.deepcopy(network)
    theirs.memory = PlainMemory(theirs.memory)
    x = torch.from_numpy(X).to(device)

    def training_step(network, optimiser):
        loss, _ = objective(network(x), x, ALPHA, 0.0)
        loss.backward()
        optimiser.step(1e-4)
        if x.is_cuda:
            torch.cuda.synchronize()
        return loss.detach()

    return [partial(training_step, each, Adam(each)) for each in (network, theirs)]


class PlainMemory(nn.Module):
    """A memory with one head and a query per sample, addressed in plain torch."""

    def __init__(self, memory):
        super().__init__()
        self.memory = memory

    def forward(self, query):
        query, keys = self.memory.factors(query)
        read_out, entropy, mass = plain(query, keys, self.memory.split_heads(self.memory.items), self.memory.threshold)
        return Answer(read_out.squeeze(0), entropy.squeeze(0), mass)
