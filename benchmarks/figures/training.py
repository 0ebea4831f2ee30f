"""Cost of ``fit`` against a bare training loop, of a step against the paper's equations as printed, and the memory's share."""

from argparse import Namespace
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from sklearn.base import clone
from torch import Tensor, nn

from figures import in_turns, row
from skmemae import MemAEDetector, presets
from skmemae._train.loop import objective
from skmemae._train.optimiser import Adam
from skmemae.network import MemAE

ALPHA = 2e-4
KDDCUP99 = {**presets.paper("kddcup99"), "batch_size": 1024, "max_epochs": 20}
# Parameters and shape of X: the paper's layers on tables and images, the defaults on small clips.
FITS = {
    "table 200,000 x 120, 120-60-30-10-3": (KDDCUP99, (200_000, 120)),
    "images 2,000 x 28 x 28, MNIST preset": ({**presets.paper("mnist"), "max_epochs": 20}, (2_000, 28, 28)),
    "clips 160 x 8 x 32 x 32": (
        {"batch_size": 8, "max_epochs": 20, "learning_rate": 2e-3, "ensemble_size": 1},
        (160, 1, 8, 32, 32),
    ),
}
STEPS = {
    "images 28 x 28, MNIST preset": (presets.paper("mnist"), (64, 28, 28)),
    "images 28 x 28, defaults": ({}, (128, 28, 28)),
    "clips 16 x 64 x 64, paper's preset": (presets.paper("video"), (2, 1, 16, 64, 64)),
    "clips 9 x 60 x 90, small_video": (presets.small_video(), (8, 1, 9, 60, 90)),
    "clips 8 x 32 x 32, defaults": ({}, (8, 1, 8, 32, 32)),
}


def overhead(args: Namespace) -> list[dict[str, Any]]:
    """Rows of the seconds of ``fit`` over those of the bare loop, which neither validates nor scores X."""
    rows = []
    for label, (params, shape) in FITS.items():
        X = noise(shape)
        detector = MemAEDetector(**params, validation_fraction=0.0, random_state=0, device=args.device)
        network = made_network(detector, X)
        on_device = as_tensor(X, args.device)
        settings = detector.get_params()

        def loop(network=network, on_device=on_device, s=settings):
            bare_loop(network, on_device, s["batch_size"], s["max_epochs"], s["learning_rate"])

        ours, bare = in_turns(args.repeats, lambda detector=detector, X=X: detector.fit(X), loop)
        rows.append(row(f"fit over the bare loop: {label}", ours / bare, "times", "<= 1.10", seconds=ours, reference=bare))
    return rows


def bare_loop(network: MemAE, X: Tensor, batch_size: int, epochs: int, learning_rate: float) -> None:
    """Train the network by the shortest loop with the phases and the optimiser of ``fit``."""
    autoencoder = MemAE(network.encoder, network.decoder)
    optimiser = torch.optim.Adam(network.parameters(), lr=learning_rate, fused=True)
    network.train()
    for epoch in range(epochs):
        model = autoencoder if epoch < epochs // 10 else network
        for rows in torch.randperm(len(X), device=X.device).split(batch_size):
            x = X[rows]
            output = model(x)
            loss = nn.functional.mse_loss(output.reconstruction, x, reduction="sum") / len(x)
            if output.entropy is not None:
                loss = loss + ALPHA * output.entropy.mean()
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()


def transcription(args: Namespace) -> list[dict[str, Any]]:
    """Row of training steps of the paper's KDDCUP99 network over those of a literal transcription of the equations."""
    X = torch.from_numpy(noise((20_480, 120))).to(args.device)
    network = made_network(MemAEDetector(**KDDCUP99, device=args.device), X[:2000].cpu().numpy()).train()
    optimiser = Adam(network)
    printed = Transcription().to(args.device)
    printed_optimiser = torch.optim.Adam(printed.parameters())

    def epoch() -> None:
        for rows in torch.randperm(len(X), device=X.device).split(1024):
            x = X[rows]
            objective(network(x), x, ALPHA, 0.0)[0].backward()
            optimiser.step(1e-4)

    def printed_epoch() -> None:
        for rows in torch.randperm(len(X), device=X.device).split(1024):
            x = X[rows]
            reconstruction, weights = printed(x)
            entropy = (-weights * torch.log(weights + 1e-12)).sum(dim=1)
            loss = ((x - reconstruction) ** 2).sum(dim=1).mean() + ALPHA * entropy.mean()
            printed_optimiser.zero_grad()
            loss.backward()
            printed_optimiser.step()

    our_seconds, printed_seconds = in_turns(
        args.repeats * 3, lambda: [epoch() for _ in range(5)], lambda: [printed_epoch() for _ in range(5)]
    )
    label = "training steps a second over the printed equations': 120-60-30-10-3, batch 1024"
    return [row(label, printed_seconds / our_seconds, "times", ">= 2", seconds=our_seconds, reference=printed_seconds)]


class Transcription(nn.Module):
    """The paper's network for KDDCUP99 (section 4.3), with tanh."""

    def __init__(self, sizes: Sequence[int] = (120, 60, 30, 10, 3), n_items: int = 50) -> None:
        super().__init__()

        def stack(sizes: Sequence[int]) -> list[nn.Module]:
            return [layer for pair in pairwise(sizes) for layer in (nn.Linear(*pair), nn.Tanh())]

        self.encoder = nn.Sequential(*stack(sizes))
        self.decoder = nn.Sequential(*stack(sizes[::-1])[:-1])
        self.memory = PrintedMemory(nn.Parameter(torch.randn(n_items, sizes[-1])))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        read_out, weights = self.memory(self.encoder(x))
        return self.decoder(read_out), weights


class PrintedMemory(nn.Module):
    """Memory by equations 3 to 7 as printed, with lambda = 1/N."""

    def __init__(self, items: nn.Parameter) -> None:
        super().__init__()
        self.items = items

    def forward(self, query: Tensor) -> tuple[Tensor, Tensor]:
        query = nn.functional.normalize(query, dim=1)
        weights = torch.softmax(query @ nn.functional.normalize(self.items, dim=1).T, dim=1)
        threshold = 1 / len(self.items)
        shrunk = torch.relu(weights - threshold) * weights / ((weights - threshold).abs() + 1e-12)
        weights = nn.functional.normalize(shrunk, p=1, dim=1)
        return weights @ self.items, weights


def memory_share(args: Namespace) -> list[dict[str, Any]]:
    """Rows of the memory's seconds, forward and backward, as a share of those of a training step."""
    rows = []
    for label, (params, shape) in STEPS.items():
        X = noise(shape)
        detector = MemAEDetector(**{"ensemble_size": 1, **params, "memory_size": _size(params)}, device=args.device)
        network = made_network(detector, np.concatenate([X] * 2)).train()
        optimiser = Adam(network)
        x = as_tensor(X, args.device)
        query = network.queries(x).detach().requires_grad_()
        grad = torch.randn_like(query)

        def step(network=network, x=x, optimiser=optimiser):
            objective(network(x), x, ALPHA, 0.0)[0].backward()
            optimiser.step(1e-4)

        def memory(network=network, query=query, grad=grad):
            answer = network.memory(query)
            torch.autograd.backward([answer.read_out, answer.entropy], [grad, torch.ones_like(answer.entropy)])

        step_seconds, memory_seconds = in_turns(
            args.repeats * 3, lambda step=step: [step() for _ in range(5)], lambda: [memory() for _ in range(5)]
        )
        share = memory_seconds / step_seconds
        name = f"memory's share of a step: {label}"
        rows.append(row(name, share, "of 1", "<= 0.05", seconds=memory_seconds, reference=step_seconds))
    return rows


def _size(params: dict[str, Any]) -> int:
    """Number of memory items: that of the parameters, else the default for large data."""
    return params.get("memory_size", 500 if "memory_unit" not in params else 1000)


def noise(shape: tuple[int, ...]) -> np.ndarray:
    """Normal noise, equal for equal shapes."""
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)


def as_tensor(X: np.ndarray, device: str) -> Tensor:
    """X in the network's format on the device: images get an axis of channels."""
    return torch.from_numpy(X[:, None] if X.ndim == 3 else X).to(device)


def made_network(detector: MemAEDetector, X: np.ndarray) -> MemAE:
    """Network of the detector after one epoch on the first rows of X."""
    return clone(detector).set_params(max_epochs=1).fit(X[:2048]).model_[0]
