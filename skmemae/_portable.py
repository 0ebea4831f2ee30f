"""How a detector leaves its process: pickles, files and graphs for other runtimes."""

from skmemae._inspection import InspectableDetector
from skmemae._model import FittedModel


class PortableDetector(InspectableDetector):
    """Methods that take a detector elsewhere."""

    def __getstate__(self):
        """Numpy arrays and plain values only, with a format version: loads on machines without the training device."""
        state = super().__getstate__().copy()
        if "_model" in state:
            state["_model"] = state["_model"].state()
        return state

    def __setstate__(self, state):
        super().__setstate__(state)
        if "decision_scores_" in state:
            self._model = FittedModel.from_state(state.get("_model", {}))
