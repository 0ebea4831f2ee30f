"""Pictures of what a detector learned and of what it finds; matplotlib is imported on plotting.

All displays are made by ``from_estimator`` or from plain arrays, and drawn by ``plot``, which returns the display. Those of one
Axes take it as ``ax`` and keep it as ``ax_``; those of several take a ``figure`` and keep its Axes as ``axes_``. All keep
``figure_``.
"""

from skmemae.display._curves import NormalityDisplay, ScoreDisplay, TrainingCurveDisplay
from skmemae.display._explanation import ExplanationDisplay
from skmemae.display._memory import AddressingDisplay, MemoryDisplay
from skmemae.display._reconstruction import AnomalyMapDisplay, ReconstructionDisplay

__all__ = [
    "AddressingDisplay",
    "AnomalyMapDisplay",
    "ExplanationDisplay",
    "MemoryDisplay",
    "NormalityDisplay",
    "ReconstructionDisplay",
    "ScoreDisplay",
    "TrainingCurveDisplay",
]
