"""Pictures of a fitted detector and of its scores; matplotlib is imported on plotting.

All displays are made by ``from_estimator`` or from plain arrays, and drawn by ``plot``, which returns the display. A display of
one Axes takes it as ``ax`` and keeps it as ``ax_``; a display of several Axes takes a ``figure`` and keeps its Axes as
``axes_``. All keep ``figure_``.
"""

from skmemae.display._curves import NormalityDisplay, ScoreDisplay, TrainingCurveDisplay
from skmemae.display._explanation import ExplanationDisplay
from skmemae.display._maps import PValueMapDisplay
from skmemae.display._memory import AddressingDisplay, MemoryDisplay
from skmemae.display._reconstruction import AnomalyMapDisplay, ReconstructionDisplay

__all__ = [
    "AddressingDisplay",
    "AnomalyMapDisplay",
    "ExplanationDisplay",
    "MemoryDisplay",
    "NormalityDisplay",
    "PValueMapDisplay",
    "ReconstructionDisplay",
    "ScoreDisplay",
    "TrainingCurveDisplay",
]
