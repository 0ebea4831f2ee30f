"""Memory-augmented autoencoders as outlier detectors for scikit-learn and PyOD."""

from skmemae.detector import MemAEDetector
from skmemae.health import MemoryCollapseWarning

__all__ = ["MemAEDetector", "MemoryCollapseWarning"]
__version__ = "0.1.0"
