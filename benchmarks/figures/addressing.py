"""Memory, seconds and errors of the memory's autograd function, compared with the same equations in plain torch."""

import copy
from argparse import Namespace
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from statistics import median
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from figures import in_turns, row, seconds
from figures.memory import peak_bytes
from figures.training import ALPHA, made_network, noise
from skmemae import MemAEDetector
from skmemae._train.loop import objective
from skmemae._train.optimiser import Adam
from skmemae.network import Answer
from skmemae.network.addressing import AddressAndReadOut

WIDTH, ITEMS, TEMPERATURE = 256, 2000, 0.05
CHECKED = 12_000  # queries; with this many the backward pass recomputes the weights
_GIB = 2**30
_PLAIN_QUERIES = 20_000  # of plain torch on the CPU, which would need 70 GiB for 10^6
_PLAIN_BYTES = 12 * 4 * ITEMS  # an upper estimate of plain torch's GPU memory per query
_WARM_UP = 200


class Inputs(NamedTuple):
    """Inputs of the forward pass, and the gradients that the backward pass starts from."""

    query: Tensor  # (1, Q, WIDTH), divided by the temperature
    keys: Tensor  # (1, ITEMS, WIDTH)
    values: Tensor  # (1, ITEMS, WIDTH)
    read_out_grad: Tensor  # (1, Q, WIDTH)
    entropy_grad: Tensor  # (1, Q)

    def take(self, rows: Any) -> "Inputs":
        """Inputs of the queries at ``rows``."""
        return Inputs(self.query[:, rows], self.keys, self.values, self.read_out_grad[:, rows], self.entropy_grad[:, rows])


def block_wise(query: Tensor, keys: Tensor, values: Tensor, threshold: float) -> tuple[Tensor, Tensor, Tensor]:
    """Address with the package's autograd function."""
    return AddressAndReadOut.apply(query, keys, values, None, threshold, True, True)


def plain(query: Tensor, keys: Tensor, values: Tensor, threshold: float) -> tuple[Tensor, Tensor, Tensor]:
    """Address in plain torch: equations 4, 6, 7 and 9, with a mask for the relu quotient; the largest weight is kept."""
    weights = torch.softmax(query @ keys.mT, dim=-1)
    weights = weights * ((weights > threshold) | (weights == weights.amax(dim=-1, keepdim=True)))
    weights = weights / weights.sum(dim=-1, keepdim=True)
    # The gradient of entr is infinite at zero.
    entropy = torch.special.entr(weights.clamp_min(torch.finfo(weights.dtype).tiny)).sum(dim=-1)
    return weights @ values, entropy, weights.detach().sum(dim=1)


WAYS = {"block-wise": block_wise, "plain torch": plain}


def addressing(args: Namespace) -> list[dict[str, Any]]:
    """Rows of peak memory and seconds for ``--queries`` queries, of errors, and of a training step on a table."""
    queries = int(args.queries)
    plain_queries = min(queries, _plain_queries(args.device))
    measured = [_apart(name, n, args) for name, n in zip(WAYS, (queries, plain_queries), strict=True)]
    scaled = f", measured for {plain_queries:,} and times {queries / plain_queries:g}" if plain_queries < queries else ""
    (ours_bytes, ours_seconds), (plain_bytes, plain_seconds) = measured
    plain_bytes, plain_seconds = (value * queries / plain_queries for value in (plain_bytes, plain_seconds))
    label = f"addressing, {queries:,} queries of width {WIDTH}, {ITEMS:,} items:"
    rows = [
        row(f"{label} peak memory, block-wise", ours_bytes / _GIB, "GiB", ""),
        row(f"{label} peak memory, plain torch{scaled}", plain_bytes / _GIB, "GiB", ""),
        row(f"{label} memory of block-wise addressing over plain{scaled}", ours_bytes / plain_bytes, "times", "<= 0.1"),
        row(f"{label} forward and backward, block-wise", ours_seconds, "s", "", seconds=ours_seconds),
        row(f"{label} forward and backward, plain torch{scaled}", plain_seconds, "s", "", seconds=plain_seconds),
    ]
    n, errors = largest_errors(min(queries, CHECKED), args.device)
    for name, error in errors.items():
        error_label = f"addressing, {n:,} queries: largest error beside float64, {name}"
        rows.append(row(error_label, error, "of the largest value", "< 1e-4"))
    return [*rows, _training_step(args)]


def _plain_queries(device: str) -> int:
    """Number of queries for plain torch: fixed on the CPU, as many as fit on a GPU."""
    if torch.device(device).type != "cuda":
        return _PLAIN_QUERIES
    return max(_PLAIN_QUERIES, torch.cuda.mem_get_info()[0] // _PLAIN_BYTES)


def _apart(name: str, queries: int, args: Namespace) -> tuple[float, float]:
    """Result of :func:`measure` in a separate process."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as process:
        return process.submit(measure, name, queries, args.device, args.repeats).result()


def measure(name: str, queries: int, device: str, repeats: int) -> tuple[float, float]:
    """Peak bytes beyond the inputs and median seconds of one way; needs a process in which nothing larger has run."""
    way, inputs = WAYS[name], draw(queries, device)
    step(way, inputs.take(slice(_WARM_UP)))
    durations: list[float] = []
    peak = peak_bytes(lambda: durations.extend(seconds(lambda: step(way, inputs)) for _ in range(repeats)), device)
    return peak, median(durations)


def draw(queries: int, device: str) -> Inputs:
    """Random inputs, scaled in place so that creating them takes no additional memory."""
    generator = torch.Generator(device).manual_seed(0)

    def normal(n: int) -> Tensor:
        return torch.randn(1, n, WIDTH, device=device, generator=generator)

    query, keys, values, grad = normal(queries), normal(ITEMS), normal(ITEMS), normal(queries)
    for vectors, length in ((query, 1 / TEMPERATURE), (keys, 1.0)):
        vectors *= length / torch.linalg.vector_norm(vectors, dim=-1, keepdim=True)
    return Inputs(query, keys, values, grad, torch.ones(1, queries, device=device))


def step(way: Callable[..., tuple[Tensor, Tensor, Tensor]], inputs: Inputs) -> list[Tensor]:
    """Forward and backward pass; returns read-out, entropy, and the gradients of query, keys and values."""
    leaves = [tensor.detach().requires_grad_() for tensor in inputs[:3]]
    read_out, entropy, _ = way(*leaves, 1 / ITEMS)
    torch.autograd.backward([read_out, entropy], inputs[3:])
    if read_out.is_cuda:
        torch.cuda.synchronize()
    return [read_out.detach(), entropy.detach(), *(leaf.grad for leaf in leaves)]


def largest_errors(queries: int, device: str) -> tuple[int, dict[str, float]]:
    """Number of compared queries, and each way's largest error from plain torch in float64, relative to the largest value.

    Queries with a weight so close to the threshold that rounding decides are left out, as both results are right.
    """
    inputs = draw(queries, device)
    weights = torch.softmax(inputs.query.double() @ inputs.keys.double().mT, dim=-1)
    inputs = inputs.take(((weights * ITEMS - 1).abs() > 1e-4).all(dim=-1).squeeze(0))
    del weights
    exact = step(plain, Inputs(*(tensor.double() for tensor in inputs)))
    errors = {}
    for name, way in WAYS.items():
        pairs = zip(step(way, inputs), exact, strict=True)
        errors[name] = max(float((result - expected).abs().max() / expected.abs().max()) for result, expected in pairs)
    return inputs.query.shape[1], errors


def _training_step(args: Namespace) -> dict[str, Any]:
    """Row of the seconds of a training step with plain addressing over those of one with the autograd function."""
    steps = training_steps(args.device)
    our_seconds, plain_seconds = in_turns(3 * args.repeats, *[lambda s=s: [s() for _ in range(50)] for s in steps])
    label = "training step of a table (30-64-15, batch 1024, 100 items), plain autograd over AddressAndReadOut"
    return row(label, plain_seconds / our_seconds, "times", ">= 1.2", seconds=our_seconds / 50, reference=plain_seconds / 50)


def training_steps(device: str) -> list[Callable[[], Tensor]]:
    """Two functions that train equal networks for one step and return the loss: with the autograd function, and plain."""
    X = noise((1024, 30))
    detector = MemAEDetector(
        widths=(64, 15),
        memory_unit="sample",
        memory_size=100,
        batch_size=1024,
        ensemble_size=1,
        random_state=0,
        device=device,
    )
    network = made_network(detector, X).train()
    plain_network = copy.deepcopy(network)
    plain_network.memory = PlainMemory(plain_network.memory)
    x = torch.from_numpy(X).to(device)

    def training_step(network: nn.Module, optimiser: Adam) -> Tensor:
        loss, _ = objective(network(x), x, ALPHA, 0.0)
        loss.backward()
        optimiser.step(1e-4)
        if x.is_cuda:
            torch.cuda.synchronize()
        return loss.detach()

    return [partial(training_step, model, Adam(model)) for model in (network, plain_network)]


class PlainMemory(nn.Module):
    """Memory with one head and one query per sample, addressed in plain torch."""

    def __init__(self, memory: nn.Module) -> None:
        super().__init__()
        self.memory = memory

    def forward(self, query: Tensor) -> Answer:
        values = self.memory.split_heads(self.memory.items)
        query, keys = self.memory._factors(self.memory.split_heads(query), values)
        read_out, entropy, mass = plain(query, keys, values, self.memory.threshold)
        return Answer(read_out.squeeze(0), entropy.squeeze(0), mass.squeeze(0))
