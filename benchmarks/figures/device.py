"""What a GPU brings: training of a table and of video, and whether scores are those of the CPU.

On the CPU everything runs at a small size, so that the commands can be tried; the goals are those of a GPU.
"""

import warnings

import numpy as np
import torch
from sklearn.base import clone

from figures import in_turns, row, seconds
from figures.training import ALPHA, PrintedMemory
from skmemae import MemAEDetector, presets
from skmemae._runtime import training_precision
from skmemae._train.loop import objective
from skmemae._train.optimiser import Adam


def training_table(args):
    """Rows of KDDCUP99's shape that a fit trains on in a second, and whether the device is waited for within an epoch."""
    n, epochs = (2 * 10**6, 10) if _is_gpu(args.device) else (20_000, 2)
    X = np.random.default_rng(0).normal(size=(n, 120)).astype(np.float32)
    detector = MemAEDetector(**presets.paper("kddcup99"), validation_fraction=0.0, random_state=0, device=args.device)
    detector.set_params(batch_size=1024, max_epochs=1).fit(X)
    one = seconds(lambda: detector.fit(X))
    many = seconds(lambda: detector.set_params(max_epochs=1 + epochs).fit(X))
    rate = n * epochs / (many - one)
    rows = [row("rows trained, 120-60-30-10-3, batch 1024", rate, "a second", ">= 1e7", seconds=many - one)]
    if torch.device(args.device).type == "cuda":
        few, more = (_waits(clone(detector).set_params(max_epochs=1, batch_size=size), X[:40_000]) for size in (4096, 512))
        rows.append(row("waits for the device, of an epoch of 78 steps less one of 9", more - few, "", "0"))
    return rows


def training_video(args):
    """Steps and scores of the paper's video preset beside the printed equations in float32."""
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

    def ours():
        with training_precision("auto", x.device):
            output = fast.train()(x)
        objective(output, x, ALPHA, 0.0)[0].backward()
        optimiser.step(1e-4)
        _synchronise(args.device)

    def theirs():
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

    mine, printed = in_turns(args.repeats * 3, ours, theirs)
    score = min(seconds(lambda: detector.decision_function(clips)) for _ in range(args.repeats + 1))
    what = "video, " + " x ".join(map(str, shape[1:]))
    return [
        row(
            f"{what}: training steps over the printed equations'",
            printed / mine,
            "times",
            ">= 5",
            seconds=mine,
            reference=printed,
        ),
        row(f"{what}: frames scored", n * shape[1] / score, "a second", ">= 2000", seconds=score),
    ]


def agreement(args):
    """Largest relative difference between scores of the device and of the CPU, of one detector."""
    rng = np.random.default_rng(0)
    rows = []
    for what, X in {"table": rng.normal(size=(2000, 30)), "images": rng.normal(size=(500, 28, 28))}.items():
        detector = MemAEDetector(max_epochs=5, random_state=0, device=args.device).fit(X)
        there = detector.decision_function(X)
        here = detector.to("cpu").decision_function(X)
        rows.append(
            row(f"scores of {what}: largest relative difference from the CPU's", np.abs(there / here - 1).max(), "", "< 1e-4")
        )
    return rows


def _is_gpu(device):
    return torch.device(device).type != "cpu"


def _synchronise(device):
    if _is_gpu(device):
        torch.accelerator.synchronize()


def _waits(detector, X):
    """How often a fit waits for the GPU."""
    before = torch.cuda.get_sync_debug_mode()
    torch.cuda.set_sync_debug_mode("warn")
    try:
        with warnings.catch_warnings(record=True) as found:
            warnings.simplefilter("always")
            detector.fit(X)
    finally:
        torch.cuda.set_sync_debug_mode(before)
    return sum("synchronizing" in str(warning.message) for warning in found)
