"""Maintenance of memory items in training: where they start, revival of idle items, and items made of rows."""

from collections.abc import Callable
from typing import cast

import torch
from torch import Tensor

from skmemae._train.optimiser import Adam
from skmemae.network import MemAE, Output, RowMemAE

_ANSWERING = 2500  # largest number of items of a member that are used in training; more take time and change little
_ASKING = 256  # rows of a member that the unit is chosen on
_RECONSTRUCTED = 512  # columns of a row that are reconstructed in a step of training, at least
_UNITS = -6, 2  # range of exponents: candidate units are the mean distance times powers of two
_WARM_UP = 0.1  # share of the epochs before the memory comes in
_MAINTAINED = 0.6  # share of the epochs after which learned items are left to the optimiser
_FAIR_SHARE = 0.05  # items with less than this part of 1/N of all weights are revived


class Items:
    """Base class, also used for networks without a memory: it changes no items.

    Attributes
    ----------
    first_epoch : int
        Epoch from which the memory is used.
    settled_epoch : int
        Epoch from which only the optimiser changes the items, so that held-out errors can be compared.
    """

    first_epoch = 0
    settled_epoch = 0

    def forward(self, model: torch.nn.Module, x: Tensor, rows: Tensor) -> tuple[Output, Tensor]:
        """The model's output for samples ``x`` to train on, the ``rows`` of the loader, and what is to be reconstructed."""
        return model(x), x

    def hidden(self, rows: Tensor) -> dict[str, Tensor]:
        """Arguments of the model that hide the items that are made of these rows of the loader."""
        return {}

    def begin_epoch(self, epoch: int) -> None:
        """Prepare the items for an epoch."""

    def end_epoch(self, epoch: int, mass: Tensor | None) -> None:
        """Change the items after an epoch; ``mass`` holds the weights of each item summed over the queries: (N,)."""


class LearnedItems(Items):
    """Items that the optimiser moves: they start at queries of random samples, and idle ones are moved to new queries.

    The samples are random because queries of badly reconstructed samples would fill the memory with outliers.

    Parameters
    ----------
    items : Tensor of shape (N, C)
    optimiser : Adam
    draw : callable
        Takes a number and returns so many queries of random samples, the same on all processes.
    max_epochs : int
    usage : Tensor of shape (N,) or None, default=None
        For a network that was trained before: the share of the queries that used each item. Then there is no warm-up, and idle
        items are moved once, at the start.
    """

    def __init__(
        self,
        items: Tensor,
        optimiser: Adam,
        draw: Callable[[int], Tensor],
        max_epochs: int,
        usage: Tensor | None = None,
    ):
        self.items = items
        self.optimiser = optimiser
        self.draw = draw
        self.usage = usage
        if usage is None:
            self.first_epoch = max(min(1, max_epochs - 2), int(_WARM_UP * max_epochs))
            self.settled_epoch = max(1, int(_MAINTAINED * max_epochs))

    @torch.no_grad()
    def begin_epoch(self, epoch: int) -> None:
        if epoch == self.first_epoch:
            if self.usage is None:
                self.items.copy_(self.draw(len(self.items)))
            else:
                self.revive(self.usage)

    def end_epoch(self, epoch: int, mass: Tensor | None) -> None:
        if mass is not None and self.first_epoch <= epoch < self.settled_epoch:
            self.revive(mass)

    @torch.no_grad()
    def revive(self, mass: Tensor) -> None:
        """Move the items that hardly any query uses to queries of random samples."""
        idle = torch.nonzero(mass < _FAIR_SHARE * mass.sum() / len(mass)).flatten()
        if len(idle):
            self.items[idle] = self.draw(len(idle))
            self.optimiser.forget(self.items, idle)


class RowItems(Items):
    """Memory items made of rows, with the keys that the encoder makes of them at present.

    A training row is reconstructed without its own item, so that it is reconstructed from other rows, as a new row is. With its
    own item the network would learn to copy any row.

    Parameters
    ----------
    network : RowMemAE
    examples : Tensor of shape (members, N, d)
        The scaled rows that the items are made of.
    own_items : Tensor of int of shape (members, n_groups + 1)
        The item of each member that is made of each known sample, -1 for none, in the last column for unknown samples.
    group : Tensor of int of shape (n_rows,)
        The known sample that each row of the loader is, -1 for none.
    n_training : int
        Number of items at the start of each member that are made of rows that it is trained on.
    """

    def __init__(self, network: RowMemAE, examples: Tensor, own_items: Tensor, group: Tensor, n_training: int):
        self.network = network
        self.examples = examples
        self.own_items = own_items.to(examples.device)
        self.group = group.to(examples.device)
        self.n_training = n_training
        self.n_steps = 0

    def hidden(self, rows: Tensor) -> dict[str, Tensor]:
        return {"hidden": self._own(rows)}

    def _own(self, rows: Tensor) -> Tensor:
        """Own items of rows of the loader: (batch,) -> (members, batch)."""
        return self.own_items[:, self.group[rows.to(self.group.device)]]

    def begin_epoch(self, epoch: int) -> None:
        self.n_steps = epoch
        if epoch == 0:
            self.choose_unit()

    @torch.no_grad()
    def end_epoch(self, epoch: int, mass: Tensor | None) -> None:
        """Store the rows and their present keys as the items."""
        keys = self.network.queries(self.examples)
        self.network.memory.keys.copy_(keys)
        self.network.memory.rows.copy_(self.examples)

    def forward(self, model: torch.nn.Module, x: Tensor, rows: Tensor) -> tuple[Output, Tensor]:
        """The output and target; where a member is not trained on a row, the reconstruction is the target, so its error is 0.

        Of many columns some are reconstructed in a step and others in the next: all of them would take most of the time.
        """
        answering, stride = min(_ANSWERING, self.n_training), max(1, x.shape[1] // _RECONSTRUCTED)
        columns = slice(self.n_steps % stride, None, stride)
        self.n_steps += 1
        own, target = self._own(rows), x[:, columns]
        hidden, examples = own.masked_fill(own >= answering, -1), self.examples[:, :answering]
        output = model(x, hidden=hidden, examples=examples, columns=columns)
        if self.n_training == self.examples.shape[1]:
            return output, target
        untrained = (own >= self.n_training).unsqueeze(-1)
        return output._replace(reconstruction=torch.where(untrained, target, output.reconstruction.float())), target

    @torch.no_grad()
    def choose_unit(self) -> None:
        """Scale the queries of each member so that mixtures of other rows reconstruct some rows with the least error."""
        memory, flat = self.network.memory, self.examples
        keys = self.network.queries(flat)
        distances = torch.cdist(keys[:, :_ASKING], keys).square_() / keys.shape[-1]
        unit = distances.mean(dim=(1, 2))
        if not (torch.isfinite(unit) & (unit > 0)).all():
            return
        torch.diagonal(distances, dim1=1, dim2=2).fill_(torch.inf)
        units = unit * 2.0 ** torch.arange(*_UNITS, dtype=unit.dtype, device=unit.device).unsqueeze(1)  # (candidates, members)
        errors = []
        for candidate in units:
            mixtures = torch.softmax(-distances / candidate.view(-1, 1, 1), dim=2) @ flat
            errors.append((mixtures - flat[:, :_ASKING]).abs().mean(dim=2).mean(dim=1))
        best = units.gather(0, torch.stack(errors).argmin(dim=0, keepdim=True)).squeeze(0)
        last = self.network.encoder[-1]
        for parameter in (last.weight, last.bias):
            cast(Tensor, parameter).mul_((memory.temperature / best).sqrt().view(-1, 1, 1))


@torch.no_grad()
def random_queries(network: MemAE, batches: list[Tensor], count: int, generator: torch.Generator) -> Tensor:
    """Queries of samples at random locations with a little noise, (count, C); several of a sample only if there are too few.

    Parameters
    ----------
    network : MemAE
    batches : list of Tensor
        Scaled samples.
    count : int
    generator : torch.Generator
    """
    network.eval()
    per_sample = -(-count // sum(len(x) for x in batches))
    queries = []
    for x in batches:
        query = network.queries(x).movedim(1, -1)
        query = query.reshape(len(x), -1, query.shape[-1]).float()  # (b, locations, C)
        location = torch.randint(query.shape[1], (len(x), per_sample), generator=generator).to(query.device)
        queries.append(query.take_along_dim(location.unsqueeze(-1), dim=1))
    # One query of each sample comes before the second of any sample.
    return _jitter(torch.cat(queries).transpose(0, 1).flatten(0, 1)[:count], generator)


def _jitter(items: Tensor, generator: torch.Generator) -> Tensor:
    """Items with noise of a hundredth of their size: equal items would stay equal, with equal weights."""
    noise = torch.randn(items.shape, generator=generator).to(items.device)
    return items + 0.01 * items.square().mean().sqrt() * noise
