"""Time of a fit: what it may take, how far it is, and how long it will take."""

import math
import time
from collections.abc import Callable

import torch

from skmemae._runtime import warn_caller
from skmemae._train.distributed import SingleProcess

LEAST_STEPS = 5  # of a network, whatever the time: its phases follow each other, and batch normalisation sees batches
_LONG = 60.0  # seconds of a fit that is worth a warning
_WARM_UP_STEPS, _WARM_UP = 3, 0.5  # the first steps, and seconds, which take longer than later ones
_MEASURED = 1.0  # seconds of steps that an estimate is made from; before, a device may lag behind


class LongFitWarning(UserWarning):
    """A fit may take more than a minute."""


class Timing:
    """The time of a fit or an update. Without a limit it changes nothing in training.

    Parameters
    ----------
    limit : float or None, default=None
        Seconds, above 0, that all may take from now to the end of training.
    clock : callable, default=time.monotonic
        Returns seconds; only differences count.

    Attributes
    ----------
    total : float
        Weight of all parts: a network counts 1.
    done : float
        Weight of the parts that are done.
    is_up : bool
        Whether the limit has cut a part short.
    is_short : bool
        Whether a part has had no time for more than the least number of steps.
    """

    def __init__(self, limit: float | None = None, clock: Callable[[], float] = time.monotonic):
        self.limit = None if limit is None else float(limit)
        self.clock = clock
        self.total, self.done = 1.0, 0.0
        self.is_up = self.is_short = False
        self._start = self._begin = clock()
        self._listeners: list[Callable[[float], None]] = []

    def begin(self, total: float, *listeners: Callable[[float], None]) -> None:
        """Begin parts of the given weight; listeners get the share of the training that is done after each step."""
        self.total, self.done = total, 0.0
        self._listeners = list(listeners)

    def used(self) -> float:
        """Seconds that the fit has taken, those before it was killed included."""
        return self.clock() - self._begin

    def resume(self, used: float) -> None:
        """Go on with a fit that had taken so many seconds up to here."""
        self._begin = self.clock() - used

    def elapsed(self) -> float:
        """Seconds since this object was made."""
        return self.clock() - self._start

    def seconds_of(self, weight: float) -> float:
        """Seconds that a part may take: its share of those that are left."""
        if self.limit is None:
            return math.inf
        return max(0.0, self.limit - self.used()) * min(1.0, weight / max(self.total - self.done, 1e-9))

    def note(self, done: float) -> None:
        """Tell the listeners that parts of this weight are done."""
        for listener in self._listeners:
            listener(min(1.0, done / self.total))


class Part:
    """Training of one network within the time of a fit.

    Parameters
    ----------
    timing : Timing
    weight : float, default=1.0
        Time that it takes, where that of a network that reconstructs is 1.
    processes : SingleProcess or None, default=None
        Processes that train it together; the clock of the first decides.

    Attributes
    ----------
    steps : int
        Steps done.
    progress : float
        Share that is done, of the steps or of the time, whichever is larger; in [0, 1].
    is_up : bool
        Whether the time has ended the part before its last step.
    """

    def __init__(self, timing: Timing, weight: float = 1.0, processes: SingleProcess | None = None):
        self.timing = timing
        self.weight = weight
        self.processes = SingleProcess() if processes is None else processes
        self.begin, self.seconds = timing.used(), timing.seconds_of(weight)
        self.steps, self.progress = 0, 0.0
        self.is_up = False

    def step(self, share: float) -> float:
        """Count a step, after which a share of all steps is done; return the progress, at which the schedule goes on."""
        self.steps += 1
        self.progress = share if self.timing.limit is None else self._in_time(share)
        self.timing.note(self.timing.done + self.weight * self.progress)
        return self.progress

    def _in_time(self, share: float) -> float:
        """The share, or that of the time if it is larger; the same on all processes."""
        passed = self.timing.used() - self.begin
        of_time = passed / self.seconds if passed < self.seconds else 1.0
        agreed = torch.tensor([max(share, min(of_time, self.steps / LEAST_STEPS))], dtype=torch.float64)
        self.processes.broadcast(agreed)
        self.is_up = float(agreed) >= 1.0 > share
        return float(agreed)

    def end(self) -> None:
        """The part is done, before its last step or after it."""
        self.timing.is_up |= self.is_up
        self.timing.is_short |= self.is_up and self.steps <= LEAST_STEPS
        self.timing.done += self.weight
        self.timing.note(self.timing.done)

    def state(self) -> list[float]:
        """Begin and length in seconds, and the number of steps, for checkpoints."""
        return [self.begin, self.seconds, float(self.steps)]

    def load_state(self, state: list[float]) -> None:
        """Go on from a state."""
        self.begin, self.seconds, self.steps = state[0], state[1], int(state[2])


class LongFit:
    """Warns once if a fit may take long, by the pace of its first steps.

    Parameters
    ----------
    timing : Timing
    device : torch.device
    """

    def __init__(self, timing: Timing, device: torch.device):
        self.timing = timing
        self.device = device
        self.begin = timing.elapsed()
        self.steps = 0
        self.mark: tuple[float, float] | None = None  # seconds, and share of the training, at the end of the warm-up
        self.is_decided = False

    def step(self, done: float) -> None:
        """A step has ended, after which a share of the training is done."""
        if self.is_decided:
            return
        now, self.steps = self.timing.elapsed(), self.steps + 1
        if self.mark is None:
            if self.steps >= _WARM_UP_STEPS or now - self.begin >= _WARM_UP:
                self.mark = now, done
        elif now - self.mark[0] >= _MEASURED and done > self.mark[1]:
            self.is_decided = True
            self._warn(now + (1 - done) * (now - self.mark[0]) / (done - self.mark[1]))

    def _warn(self, seconds: float) -> None:
        limit = self.timing.limit
        if limit is not None:
            seconds = min(seconds, limit)
        if seconds <= _LONG:
            return
        bound = "A smaller time_limit" if limit is not None else f"time_limit={_LONG:.0f}"
        warn_caller(
            f"This fit may take up to about {in_words(seconds)} on {self.device}. {bound} bounds it; verbose=1 shows its "
            "progress.",
            LongFitWarning,
        )


def in_words(seconds: float) -> str:
    """A time of more than a minute in full minutes, or in full hours beyond a hundred minutes; never less than it is."""
    minutes = math.ceil(seconds / 60)
    return f"{minutes} minutes" if minutes <= 100 else f"{math.ceil(minutes / 60)} hours"
