"""Memory-augmented autoencoders as outlier detectors for scikit-learn and PyOD."""

from skmemae._detector import MemAEDetector
from skmemae._model.explanation import Explanation
from skmemae._runtime import __version__ as __version__
from skmemae._train.distributed import single_process
from skmemae._train.result import MemoryCollapseWarning
from skmemae._train.timing import LongFitWarning

__all__ = ["Explanation", "LongFitWarning", "MemAEDetector", "MemoryCollapseWarning", "single_process"]
