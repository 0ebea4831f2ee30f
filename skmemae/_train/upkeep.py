"""Upkeep of the memory: where its items start, and what becomes of items that no query uses."""

import torch
from torch import Tensor

_FAIR_SHARE = 0.05  # items that carry less than this part of 1/N are revived


@torch.no_grad()
def fill_memory(network, loader, rows, batch_size, generator, processes) -> None:
    """Start the items at encodings of random samples."""
    items = network.memory.items
    items.copy_(_random_queries(network, loader, rows, batch_size, len(items), generator))
    processes.broadcast(items)


@torch.no_grad()
def revive_items(network, mass, loader, rows, batch_size, optimiser, generator, processes) -> None:
    """Move items that hardly any query uses to the queries of random samples.

    Random, not badly reconstructed ones: where the training data holds outliers, those would fill the memory.
    """
    idle = torch.nonzero(mass < _FAIR_SHARE * mass.sum() / len(mass)).flatten()
    if len(idle) == 0:
        return
    items = network.memory.items
    items[idle] = _random_queries(network, loader, rows, batch_size, len(idle), generator)
    processes.broadcast(items)
    optimiser.forget(items, idle)


def _random_queries(network, loader, rows, batch_size, count, generator) -> Tensor:
    """Queries of random samples at random locations, (count, C), slightly moved; several of a sample only where it must be."""
    network.eval()
    rows = rows[torch.randperm(len(rows), generator=generator)[:count]]
    per_sample = -(-count // len(rows))
    queries = []
    for batch in rows.split(batch_size):
        query = network.queries(network.encoder(loader.samples(batch))).movedim(1, -1)
        query = query.reshape(len(batch), -1, query.shape[-1]).float()  # (b, locations, C)
        location = torch.randint(query.shape[1], (len(batch), per_sample), generator=generator).to(query.device)
        queries.append(query.take_along_dim(location.unsqueeze(-1), dim=1))
    # One of each sample before a second of any.
    return _jitter(torch.cat(queries).transpose(0, 1).flatten(0, 1)[:count], generator)


def _jitter(items: Tensor, generator: torch.Generator) -> Tensor:
    """Items moved by a hundredth of their size: equal items would share every weight for ever."""
    noise = torch.randn(items.shape, generator=generator).to(items.device)
    return items + 0.01 * items.square().mean().sqrt() * noise
