"""What ``fit`` costs beside the shortest loop, a step beside the paper's equations as printed, and the memory's share of it."""

from itertools import pairwise

import numpy as np
import torch
from sklearn.base import clone
from torch import nn

from figures import in_turns, row
from skmemae import MemAEDetector, presets
from skmemae._train.loop import objective
from skmemae._train.optimiser import Adam
from skmemae.network import MemAE

ALPHA = 2e-4
KDDCUP99 = {**presets.paper("kddcup99"), "batch_size": 1024, "max_epochs": 20}
# Parameters, shape of X: the paper's layers on tables and images, the defaults on small clips.
FITS = {
    "table 200,000 x 120, 120-60-30-10-3": (KDDCUP99, (200_000, 120)),
    "images 2,000 x 28 x 28, MNIST preset": ({**presets.paper("mnist"), "max_epochs": 20}, (2_000, 28, 28)),
    "clips 160 x 8 x 32 x 32": ({"batch_size": 8, "max_epochs": 20, "ensemble_size": 1}, (160, 1, 8, 32, 32)),
}
STEPS = {
    "images 28 x 28, MNIST preset": (presets.paper("mnist"), (64, 28, 28)),
    "images 28 x 28, defaults": ({}, (128, 28, 28)),
    "clips 16 x 64 x 64, paper's preset": (presets.paper("video"), (2, 1, 16, 64, 64)),
    "clips 9 x 60 x 90, small_video": (presets.small_video(), (8, 1, 9, 60, 90)),
    "clips 8 x 32 x 32, defaults": ({}, (8, 1, 8, 32, 32)),
}


def overhead(args):
    """Seconds of ``fit`` over those of the bare loop, which neither looks at X nor scores it."""
    rows = []
    for what, (params, shape) in FITS.items():
        X = noise(shape)
        detector = MemAEDetector(**params, validation_fraction=0.0, random_state=0, device=args.device)
        network = made_network(detector, X)
        there = as_tensor(X, args.device)
        settings = detector.get_params()

        def loop(network=network, there=there, s=settings):
            bare_loop(network, there, s["batch_size"], s["max_epochs"], s["learning_rate"])

        ours, bare = in_turns(args.repeats, lambda detector=detector, X=X: detector.fit(X), loop)
        rows.append(row(f"fit over the bare loop: {what}", ours / bare, "times", "<= 1.10", seconds=ours, reference=bare))
    return rows


def bare_loop(network, X, batch_size, epochs, learning_rate):
    """The shortest loop that trains the same network in the same phases with the same optimiser."""
    alone = MemAE(network.encoder, network.decoder)
    optimiser = torch.optim.Adam(network.parameters(), lr=learning_rate, fused=True)
    network.train()
    for epoch in range(epochs):
        model = alone if epoch < epochs // 10 else network
        for rows in torch.randperm(len(X), device=X.device).split(batch_size):
            x = X[rows]
            output = model(x)
            loss = nn.functional.mse_loss(output.reconstruction, x, reduction="sum") / len(x)
            if output.entropy is not None:
                loss = loss + ALPHA * output.entropy.mean()
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()


def transcription(args):
    """Steps of the paper's KDDCUP99 network at batch 1024 beside a transcription of the equations in separate operations."""
    X = torch.from_numpy(noise((20_480, 120))).to(args.device)
    network = made_network(MemAEDetector(**KDDCUP99, device=args.device), X[:2000].cpu().numpy()).train()
    optimiser = Adam(network)
    printed = Transcription().to(args.device)
    printed_optimiser = torch.optim.Adam(printed.parameters())

    def ours():
        for rows in torch.randperm(len(X), device=X.device).split(1024):
            x = X[rows]
            objective(network(x), x, ALPHA, 0.0)[0].backward()
            optimiser.step(1e-4)

    def theirs():
        for rows in torch.randperm(len(X), device=X.device).split(1024):
            x = X[rows]
            reconstruction, weights = printed(x)
            entropy = (-weights * torch.log(weights + 1e-12)).sum(dim=1)
            loss = ((x - reconstruction) ** 2).sum(dim=1).mean() + ALPHA * entropy.mean()
            printed_optimiser.zero_grad()
            loss.backward()
            printed_optimiser.step()

    mine, printed_seconds = in_turns(args.repeats * 3, lambda: [ours() for _ in range(5)], lambda: [theirs() for _ in range(5)])
    what = "training steps a second over the printed equations': 120-60-30-10-3, batch 1024"
    return [row(what, printed_seconds / mine, "times", ">= 2", seconds=mine, reference=printed_seconds)]


class Transcription(nn.Module):
    """The network of section 4.3 for KDDCUP99, with tanh."""

    def __init__(self, sizes=(120, 60, 30, 10, 3), n_items=50):
        super().__init__()

        def stack(sizes):
            return [layer for pair in pairwise(sizes) for layer in (nn.Linear(*pair), nn.Tanh())]

        self.encoder = nn.Sequential(*stack(sizes))
        self.decoder = nn.Sequential(*stack(sizes[::-1])[:-1])
        self.memory = PrintedMemory(nn.Parameter(torch.randn(n_items, sizes[-1])))

    def forward(self, x):
        read_out, weights = self.memory(self.encoder(x))
        return self.decoder(read_out), weights


class PrintedMemory(nn.Module):
    """Equations 3 to 7 as printed, lambda at 1/N."""

    def __init__(self, items):
        super().__init__()
        self.items = items

    def forward(self, query):
        query = nn.functional.normalize(query, dim=1)
        weights = torch.softmax(query @ nn.functional.normalize(self.items, dim=1).T, dim=1)
        threshold = 1 / len(self.items)
        shrunk = torch.relu(weights - threshold) * weights / ((weights - threshold).abs() + 1e-12)
        weights = nn.functional.normalize(shrunk, p=1, dim=1)
        return weights @ self.items, weights


def memory_share(args):
    """Seconds of the memory, forward and backward, over those of a whole training step."""
    rows = []
    for what, (params, shape) in STEPS.items():
        X = noise(shape)
        detector = MemAEDetector(**{"ensemble_size": 1, **params, "memory_size": _size(params)}, device=args.device)
        network = made_network(detector, np.concatenate([X] * 2)).train()
        optimiser = Adam(network)
        x = as_tensor(X, args.device)
        query = network.queries(network.encoder(x)).detach().requires_grad_()
        grad = torch.randn_like(query)

        def step(network=network, x=x, optimiser=optimiser):
            objective(network(x), x, ALPHA, 0.0)[0].backward()
            optimiser.step(1e-4)

        def memory(network=network, query=query, grad=grad):
            found = network.memory(query)
            torch.autograd.backward([found.read_out, found.entropy], [grad, torch.ones_like(found.entropy)])

        whole, part = in_turns(
            args.repeats * 3, lambda step=step: [step() for _ in range(5)], lambda: [memory() for _ in range(5)]
        )
        rows.append(row(f"memory's share of a step: {what}", part / whole, "of 1", "<= 0.05", seconds=part, reference=whole))
    return rows


def _size(params):
    """Of the memory, as many samples would make the default."""
    return params.get("memory_size", 500 if "memory_unit" not in params else 1000)


def noise(shape):
    """The same samples for the same shape."""
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)


def as_tensor(X, device):
    """X as the network sees it, with an axis for the channels of images."""
    return torch.from_numpy(X[:, None] if X.ndim == 3 else X).to(device)


def made_network(detector, X):
    """A network as the detector makes it for X."""
    return clone(detector).set_params(max_epochs=1).fit(X[:2048]).model_[0]
