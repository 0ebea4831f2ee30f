"""The optimiser and its learning rate."""

import math

import torch
from torch import Tensor
from torch.optim.adam import adam


def schedule(progress: float) -> float:
    """Factor of the learning rate at a share of training in [0, 1]: a short linear rise, then a cosine down to zero."""
    rise = 0.1
    if progress < rise:
        return progress / rise
    return 0.5 + 0.5 * math.cos(math.pi * (progress - rise) / (1 - rise))


class Adam:
    """Adam over a network's parameters, from torch's functional form.

    The first step of ``torch.optim.Adam`` imports torch's compiler, which takes longer than most fits.
    """

    def __init__(self, network: torch.nn.Module):
        self.parameters = [p for p in network.parameters() if p.requires_grad]
        self.means = [torch.zeros_like(p) for p in self.parameters]
        self.squares = [torch.zeros_like(p) for p in self.parameters]
        self.steps = [torch.zeros((), device=p.device) for p in self.parameters]

    @torch.no_grad()
    def step(self, learning_rate: float) -> None:
        """Update the parameters that have a gradient, and clear the gradients."""
        live = [i for i, p in enumerate(self.parameters) if p.grad is not None]
        columns = [[column[i] for i in live] for column in (self.parameters, self.means, self.squares, self.steps)]
        parameters, means, squares, steps = columns
        adam(
            parameters,
            [p.grad for p in parameters if p.grad is not None],
            means,
            squares,
            [],
            steps,
            fused=True,
            amsgrad=False,
            beta1=0.9,
            beta2=0.999,
            lr=learning_rate,
            weight_decay=0.0,
            eps=1e-8,
            maximize=False,
        )
        self.clear()

    def state_dict(self) -> dict:
        """Moments and numbers of steps of the parameters."""
        return {"means": self.means, "squares": self.squares, "steps": self.steps}

    def load_state_dict(self, state: dict) -> None:
        """Copy moments and numbers of steps from a state."""
        for name, values in self.state_dict().items():
            for value, other in zip(values, state[name], strict=True):
                value.copy_(other)

    def clear(self) -> None:
        """Drop the gradients."""
        for p in self.parameters:
            p.grad = None

    def forget(self, parameter: Tensor, rows: Tensor) -> None:
        """Clear the moments of some rows of a parameter."""
        at = next(i for i, p in enumerate(self.parameters) if p is parameter)
        self.means[at][rows] = 0
        self.squares[at][rows] = 0
