"""Upkeep of the memory: where its items start, what becomes of items that no query uses, and items made of rows."""

import torch
from torch import Tensor

_ANSWERING = 2500  # items of a member that answer in training; more take time and change little
_ASKING = 256  # rows that choose a temperature
_UNITS = -6, 2  # powers of two of the mean distance among which it is chosen
_WARM_UP = 0.1  # share of the epochs before the memory comes in
_UPKEEP = 0.6  # share of the epochs after which learned items are left to the optimiser
_FAIR_SHARE = 0.05  # items that carry less than this part of 1/N are revived


class Items:
    """What becomes of memory items in training, besides what the optimiser does; here nothing, as of no memory."""

    first_epoch = 0  # from which the memory answers
    settled_epoch = 0  # from which the items are left to the optimiser, so that held-out errors can be compared

    def forward(self, model, x: Tensor):
        """The model's output for samples to train on."""
        return model(x)

    def find_own(self, x: Tensor) -> Tensor | None:
        """The item of each member that is made of a sample, which must not answer it."""
        return None

    def begin_epoch(self, epoch: int) -> None:
        """Before the samples of an epoch."""

    def end_epoch(self, epoch: int, mass: Tensor | None) -> None:
        """After them; ``mass`` is the share of the queries that used each item."""


class LearnedItems(Items):
    """Items that the optimiser moves: they start at queries of random samples, and those that hardly any query uses again.

    Random, not badly reconstructed ones: where the training data holds outliers, those would fill the memory.

    Parameters
    ----------
    network : MemAE
    optimiser : Adam
    draw : callable
        Gives so many queries of random samples (:func:`random_queries`), on all processes the same.
    max_epochs : int
    usage : Tensor of shape (N,) or None, default=None
        Of a network that has been trained before, the share of the queries that used each item: no warm-up, and idle items are
        moved once, at the start.
    """

    def __init__(self, network, optimiser, draw, max_epochs: int, usage: Tensor | None = None):
        self.items = network.memory.items
        self.optimiser = optimiser
        self.draw = draw
        self.usage = usage
        if usage is None:
            self.first_epoch, self.settled_epoch = int(_WARM_UP * max_epochs), max(1, int(_UPKEEP * max_epochs))

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
        """Move the items that hardly any query uses."""
        idle = torch.nonzero(mass < _FAIR_SHARE * mass.sum() / len(mass)).flatten()
        if len(idle):
            self.items[idle] = self.draw(len(idle))
            self.optimiser.forget(self.items, idle)


class RowItems(Items):
    """Memory items that are encodings of rows, in training those of the moment; none answers the row that it is made of.

    A query that sees its own item learns to copy it, whatever it is. Left out, it has to be explained by others, as a new row.

    Parameters
    ----------
    network : MemAE
        With members.
    loader : Loader
    chosen : Tensor of int of shape (members, N)
        The rows that the items are made of.
    own : OwnItems
        Of these rows.
    """

    def __init__(self, network, loader, chosen: Tensor, own):
        self.network = network
        self.examples = loader.samples(chosen.flatten()).unflatten(0, chosen.shape)
        self.own = own.to(loader.device)

    def find_own(self, x: Tensor) -> Tensor:
        return self.own.find(x)

    def begin_epoch(self, epoch: int) -> None:
        if epoch == 0:
            self.fit_temperature()

    @torch.no_grad()
    def end_epoch(self, epoch: int, mass: Tensor | None) -> None:
        """Keep the encodings of the moment as the items."""
        self.network.memory.items.copy_(self.network.queries(self.network.encoder(self.examples)))

    def forward(self, model, x: Tensor):
        """The model's output for samples to train on; members reconstruct what they must not see without an error."""
        answering = min(_ANSWERING, self.own.n_training)
        own = self.find_own(x)
        output = model(x, examples=self.examples[:, :answering], hidden=own.masked_fill(own >= answering, -1))
        if self.own.n_training == self.examples.shape[1]:
            return output
        left_out = (own >= self.own.n_training).view(*own.shape, *[1] * (x.ndim - 1))
        return output._replace(reconstruction=torch.where(left_out, x, output.reconstruction.float()))

    @torch.no_grad()
    def fit_temperature(self) -> None:
        """Bring the queries to the unit in which the mixtures of the other rows are nearest to some rows, in each member."""
        memory, flat = self.network.memory, self.examples.flatten(2)
        keys = self.network.encoder(self.examples)[..., : memory.key_width]
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
        last = self.network.encoder.layers[-1]
        for parameter in (last.weight, last.bias):
            parameter.mul_((memory.temperature / best).sqrt().view(-1, 1, 1))


@torch.no_grad()
def random_queries(count: int, network, loader, rows, batch_size, generator, processes) -> Tensor:
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
    moved = _jitter(torch.cat(queries).transpose(0, 1).flatten(0, 1)[:count], generator)
    processes.broadcast(moved)
    return moved


def _jitter(items: Tensor, generator: torch.Generator) -> Tensor:
    """Items moved by a hundredth of their size: equal items would share every weight for ever."""
    noise = torch.randn(items.shape, generator=generator).to(items.device)
    return items + 0.01 * items.square().mean().sqrt() * noise
