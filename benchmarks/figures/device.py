"""Training and scoring speed on a GPU, and the agreement of its scores with those of the CPU.

On the CPU everything runs at a small size, to try the commands; the goals are for a GPU.
"""

import warnings
from argparse import Namespace
from typing import Any

import numpy as np
import torch
from sklearn.base import clone

from figures import in_turns, row, seconds
from figures.training import ALPHA, PrintedMemory
from skmemae import MemAEDetector, presets
from skmemae._runtime import training_dtype, training_precision
from skmemae._train.loop import objective
from skmemae._train.optimiser import Adam


def training_table(args: Namespace) -> list[dict[str, Any]]:
    """Rows of the training speed on a table of KDDCUP99's width, and of the synchronisations with a GPU within an epoch."""
    n, epochs = (2 * 10**6, 10) if _is_gpu(args.device) else (20_000, 2)
    X = np.random.default_rng(0).normal(size=(n, 120)).astype(np.float32)
    detector = MemAEDetector(**presets.paper("kddcup99"), validation_fraction=0.0, random_state=0, device=args.device)
    detector.set_params(batch_size=1024, max_epochs=1).fit(X)
    one_epoch = seconds(lambda: detector.fit(X))
    all_epochs = seconds(lambda: detector.set_params(max_epochs=1 + epochs).fit(X))
    rate = n * epochs / (all_epochs - one_epoch)
    rows = [row("rows trained, 120-60-30-10-3, batch 1024", rate, "a second", ">= 1e7", seconds=all_epochs - one_epoch)]
    if torch.device(args.device).type == "cuda":
        few, many = (_waits(clone(detector).set_params(max_epochs=1, batch_size=size), X[:40_000]) for size in (4096, 512))
        rows.append(row("waits for the device, of an epoch of 78 steps less one of 9", many - few, "", "0"))
    return rows


def training_video(args: Namespace) -> list[dict[str, Any]]:
    """Rows of training steps of the paper's video preset over the printed equations in float32, and of frames scored."""
    large = _is_gpu(args.device)
    shape = (1, 16, 256, 256) if large else (1, 16, 32, 32)
    batch, n = (14, 112) if large else (2, 4)
    clips = np.random.default_rng(0).normal(size=(n, *shape)).astype(np.float32)
    parameters = {**presets.paper("video"), "max_epochs": 1, "validation_fraction": 0.0, "random_state": 0}
    detector = MemAEDetector(**parameters, device=args.device).set_params(batch_size=batch).fit(clips[:batch])
    fast = detector.model_[0]
    plain = clone(detector).fit(clips[:batch]).model_[0].to(memory_format=torch.contiguous_format)
    plain.memory = PrintedMemory(plain.memory.items)
    x = torch.from_numpy(clips[:batch]).to(args.device)
    optimiser, plain_optimiser = Adam(fast), torch.optim.Adam(plain.parameters())

    def step() -> None:
        with training_precision(x.device, training_dtype("auto", x.device)):
            output = fast.train()(x)
        objective(output, x, ALPHA, 0.0)[0].backward()
        optimiser.step(1e-4)
        _synchronise(args.device)

    def printed_step() -> None:
        plain.train()
        query = plain.encoder(x).movedim(1, -1)
        read_out, weights = plain.memory(query.reshape(-1, query.shape[-1]))
        reconstruction = plain.decoder(read_out.reshape(query.shape).movedim(-1, 1))
        entropy = (-weights * torch.log(weights + 1e-12)).sum(dim=1)
        loss = ((x - reconstruction) ** 2).sum() / len(x) + ALPHA * entropy.mean()
        plain_optimiser.zero_grad()
        loss.backward()
        plain_optimiser.step()
        _synchronise(args.device)

    our_seconds, printed_seconds = in_turns(args.repeats * 3, step, printed_step)
    score_seconds = min(seconds(lambda: detector.decision_function(clips)) for _ in range(args.repeats + 1))
    label = "video, " + " x ".join(map(str, shape[1:]))
    return [
        row(
            f"{label}: training steps over the printed equations'",
            printed_seconds / our_seconds,
            "times",
            ">= 5",
            seconds=our_seconds,
            reference=printed_seconds,
        ),
        row(f"{label}: frames scored", n * shape[1] / score_seconds, "a second", ">= 2000", seconds=score_seconds),
    ]


def agreement(args: Namespace) -> list[dict[str, Any]]:
    """Rows of the largest relative difference between the scores of one detector on the device and on the CPU."""
    rng = np.random.default_rng(0)
    rows = []
    for name, X in {"table": rng.normal(size=(2000, 30)), "images": rng.normal(size=(500, 28, 28))}.items():
        detector = MemAEDetector(max_epochs=5, random_state=0, device=args.device).fit(X)
        on_device = detector.decision_function(X)
        on_cpu = detector.to("cpu").decision_function(X)
        difference = np.abs(on_device / on_cpu - 1).max()
        rows.append(row(f"scores of {name}: largest relative difference from the CPU's", difference, "", "< 1e-4"))
    return rows


def _is_gpu(device: str) -> bool:
    return torch.device(device).type != "cpu"


def _synchronise(device: str) -> None:
    if _is_gpu(device):
        torch.accelerator.synchronize()


def _waits(detector: MemAEDetector, X: np.ndarray) -> int:
    """Number of synchronisations with the GPU in a fit."""
    before = torch.cuda.get_sync_debug_mode()
    torch.cuda.set_sync_debug_mode("warn")
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            detector.fit(X)
    finally:
        torch.cuda.set_sync_debug_mode(before)
    return sum("synchronizing" in str(warning.message) for warning in caught)
