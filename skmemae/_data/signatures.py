"""Which memory item is the very sample that asks: an item must not answer the row that it was made of."""

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

_SEED = 0x5EED
_LARGEST = 2**62 - 1  # signatures are not negative, so that -1 can stand for none


def signatures(x: Tensor) -> Tensor:
    """Numbers that are equal for equal samples, and differ for different ones but with a probability of about 1e-18 a pair.

    Parameters
    ----------
    x : Tensor of shape (batch, \\*sample_shape), float32 or float64
        A row has one signature in each of the two.

    Returns
    -------
    signatures : Tensor of int64 of shape (batch,)
        Not negative.
    """
    flat = (x.flatten(1) + 0.0).contiguous()  # -0 becomes 0
    bits = flat.view(torch.int64) if flat.dtype == torch.float64 else flat.float().view(torch.int32).long()
    generator = torch.Generator().manual_seed(_SEED)
    factors = torch.randint(-(2**62), 2**62, (2, bits.shape[1]), generator=generator).to(x.device) | 1
    mixed = (bits + 1) * factors[0]
    mixed = (mixed ^ (mixed >> 31)) * factors[1]
    total = mixed.sum(dim=1)
    return (total ^ (total >> 29)) & _LARGEST


@dataclass(frozen=True)
class OwnItems:
    """The memory items that are made of single rows of the training data, by the signatures of these rows.

    Attributes
    ----------
    ascending : ndarray of int64 of shape (members, N)
        Signatures of the items, sorted; -1 for items of rows that the training data holds more than once.
    order : ndarray of int64 of shape (members, N)
        Numbers of the items in that order.
    n_training : int
        The first so many items of each member are made of rows that it is trained on, the others of rows that it is not.
    """

    ascending: np.ndarray | Tensor
    order: np.ndarray | Tensor
    n_training: int

    @classmethod
    def of(cls, signatures: np.ndarray, n_training: int | None = None, repeated: np.ndarray | None = None) -> "OwnItems":
        """From the signatures of all items, (members, N), how many train (None for all), and which are of repeated rows."""
        kept = signatures if repeated is None else np.where(repeated, -1, signatures)
        order = np.argsort(kept, axis=1, kind="stable")
        n_training = kept.shape[1] if n_training is None else n_training
        return cls(np.take_along_axis(kept, order, axis=1), order, n_training)

    def find(self, x: Tensor) -> Tensor:
        """The item that is made of each sample: (batch, \\*sample_shape) -> (members, batch), int64, -1 for none."""
        ascending, order = (torch.as_tensor(array, device=x.device) for array in (self.ascending, self.order))
        wanted = signatures(x).expand(len(ascending), -1).contiguous()
        place = torch.searchsorted(ascending, wanted).clamp_max_(ascending.shape[1] - 1)
        return torch.where(ascending.gather(1, place) == wanted, order.gather(1, place), -1)

    def to(self, device) -> "OwnItems":
        """The same with tensors on a device in place of arrays."""
        ascending, order = (torch.as_tensor(array, device=device) for array in (self.ascending, self.order))
        return replace(self, ascending=ascending, order=order)

    def counting(self, own: Tensor) -> Tensor:
        """Which members score a sample: those that were not trained on it if there are any, else all.

        (members, batch) of :meth:`find` -> (members, batch), bool
        """
        honest = own >= self.n_training
        return honest | ~honest.any(dim=0)
