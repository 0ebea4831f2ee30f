"""Memory-augmented autoencoders as outlier detectors for scikit-learn and PyOD."""

from skmemae._detector import MemAEDetector
from skmemae._explanation import Explanation
from skmemae._train.distributed import single_process
from skmemae._version import __version__ as __version__
from skmemae._warnings import MemoryCollapseWarning

__all__ = ["Explanation", "MemAEDetector", "MemoryCollapseWarning", "single_process"]
