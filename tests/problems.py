"""Small problems that several tests train on."""

import json

import numpy as np
import torch
from safetensors import safe_open
from safetensors.numpy import save_file

from skmemae import MemAEDetector
from skmemae._data.layout import choose_layout
from skmemae._data.loader import Loader
from skmemae._model import files
from skmemae._model.statistics import learn_scaling
from skmemae._train.items import Items, LearnedItems
from skmemae._train.loop import Curves, Settings, Training, split_rows, train_networks
from skmemae._train.run import Run
from skmemae.network import build_network

CPU = torch.device("cpu")
SETTINGS = Settings(learning_rate=5e-3, batch_size=32, max_epochs=20, validation_fraction=0.1, entropy_weight=2e-4, power=2.0)


def detector(**params):
    """A detector that trains in no time."""
    return MemAEDetector(**{"max_epochs": 5, "random_state": 0, **params})


def loader_of(X, scaling="standard", **parameters):
    """A loader of samples in the units that they have by themselves."""
    layout = choose_layout(X.shape[1:])
    return Loader(X, layout, learn_scaling(X, layout, scaling), CPU, **parameters)


def problem(n=200, memory_size=20, seed=0, verbose=0, **memory):
    """Network, loader and run for n rows that lie in three of eight dimensions."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, 3)) @ rng.normal(size=(3, 8))
    run = Run(CPU, seed, verbose=verbose)
    network = build_network((8,), "fc", (16, 4), memory_size=memory_size, generator=run.generator, **memory)
    return network, loader_of(X), run


def learned_items(training: Training) -> Items:
    """Maintenance of the items of a network, if it has any."""
    network = training.network
    if network.memory is None:
        return Items()
    return LearnedItems(network.memory.items, training.optimiser, training.random_queries, training.settings.max_epochs)


def train(network, loader, run, settings=SETTINGS, rows=None) -> Curves:
    """Train a network on some rows of the loader, all for None."""
    rows = torch.arange(len(loader)) if rows is None else rows
    split = split_rows(loader, rows, settings.validation_fraction, run)
    with run.observed(1, settings.max_epochs):
        return train_networks([network], loader, split, settings, run, learned_items)


def data():
    """A small array of each kind by name."""
    rng = np.random.default_rng(0)
    return {
        "table": rng.normal(size=(120, 6)),
        "images": rng.random((40, 12, 12)).astype(np.float32),
        "bytes": rng.integers(0, 256, size=(40, 12, 12)).astype(np.uint8),
        "clips": rng.random((20, 1, 4, 8, 8)).astype(np.float32),
    }


def text_and_arrays(path):
    """The JSON text and the arrays of the file of a detector."""
    with safe_open(path, framework="numpy") as file:
        return file.metadata()["skmemae"], {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118


def write_file(path, text, arrays):
    """Write the file of a detector with a checksum that fits."""
    save_file(arrays, path, {"skmemae": text, "sha256": files._checksum(text, arrays)})


def rewrite(path, change):
    """Let ``change`` alter the JSON text, as Python has it, and the arrays of a file, which gets a checksum that fits."""
    text, arrays = text_and_arrays(path)
    content = json.loads(text)
    content = change(content, arrays) or content
    text = content if isinstance(content, str) else json.dumps(content)
    write_file(path, text, arrays)
