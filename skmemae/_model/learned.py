"""Base class of modules whose buffers are learned from data."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

TINY = 1e-300
LARGEST = 1e300  # in place of a score that is not finite


class Learned(nn.Module):
    """A module with buffers that :meth:`declare` names; each is None until it is learned or loaded.

    A ``state_dict`` is loaded if its buffers have the declared dtypes and shapes, and refused otherwise.
    """

    def __init__(self) -> None:
        super().__init__()
        self._declared: dict[str, tuple[torch.dtype, tuple[int | str, ...], bool]] = {}

    def declare(self, name: str, dtype: torch.dtype, *shape: int | str, optional: bool = False) -> None:
        """Declare a buffer.

        Parameters
        ----------
        name : str
        dtype : torch.dtype
        *shape : int or str
            Sizes of its axes; a name stands for any size, the same wherever it occurs in this module.
        optional : bool, default=False
            Whether it may stay None.
        """
        self.register_buffer(name, None)
        self._declared[name] = dtype, shape, optional

    def learn(self, **buffers: Tensor | None) -> None:
        """Set buffers by their names."""
        for name, value in buffers.items():
            setattr(self, name, None if value is None else value.to(self._declared[name][0]))

    def _load_from_state_dict(
        self,
        state_dict: dict[str, Any],
        prefix: str,
        local_metadata: dict,
        strict: bool,
        missing_keys: list[str],
        unexpected_keys: list[str],
        error_msgs: list[str],
    ) -> None:
        sizes: dict[str, int] = {}
        for name, (dtype, shape, optional) in self._declared.items():
            value = state_dict.get(prefix + name)
            if value is None:
                setattr(self, name, None)
                if not optional:
                    missing_keys.append(prefix + name)
            elif value.dtype != dtype or not _fits(value.shape, shape, sizes):
                error_msgs.append(
                    f"{prefix}{name} must be {dtype} of shape {shape}. Got {value.dtype} of {tuple(value.shape)}."
                )
            else:
                current = getattr(self, name)
                setattr(self, name, value if current is None else value.to(current.device))
        super()._load_from_state_dict(state_dict, prefix, local_metadata, strict, missing_keys, unexpected_keys, error_msgs)

    def _apply(self, fn: Callable, recurse: bool = True) -> "Learned":
        def move(tensor: Tensor) -> Tensor:
            try:
                return fn(tensor)
            except TypeError:  # a device without float64 (MPS): such buffers stay where they are
                return tensor

        return super()._apply(move, recurse)


def _fits(found: torch.Size, shape: tuple[int | str, ...], sizes: dict[str, int]) -> bool:
    """Whether a shape fits the declared one; ``sizes`` records the sizes that have names."""
    if len(found) != len(shape):
        return False
    return all(
        sizes.setdefault(size, n) == n if isinstance(size, str) else size == n for n, size in zip(found, shape, strict=True)
    )


def at_most(values: Tensor, largest: float) -> Tensor:
    """Values clipped to at most ``largest``, without ``clamp``, whose bounds the ONNX exporter rounds to float32."""
    return torch.minimum(values, values.new_full((), largest))


def at_least(values: Tensor, smallest: float) -> Tensor:
    """Values clipped to at least ``smallest``, without ``clamp``."""
    return torch.maximum(values, values.new_full((), smallest))
