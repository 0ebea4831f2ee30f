"""How a detector leaves its process: pickles, files and graphs for other runtimes."""

import json

from skmemae import _saving
from skmemae._inspection import InspectableDetector
from skmemae._onnx import onnx_file
from skmemae._state import model_of, state_of
from skmemae._untrusted import ADDED, check_attributes, check_model, checked_detector
from skmemae._version import __version__
from skmemae._writing import replacing


class PortableDetector(InspectableDetector):
    """Methods that take a detector elsewhere."""

    def __getstate__(self):
        """Numpy arrays and plain values only, with a format version: loads on machines without the training device."""
        state = super().__getstate__().copy()
        if "_model" in state:
            state["_model"] = state_of(state["_model"])
        return state

    def __setstate__(self, state):
        super().__setstate__(state)
        if "decision_scores_" in state:
            self._model = model_of(state.get("_model", {}))

    def save(self, path):
        """Write the fitted detector to one file, from which :meth:`load` makes it again: with all attributes, and equal scores.

        The file is in the format of safetensors: arrays, and one JSON text. Unlike a pickle it holds no code, and versions of
        skmemae to come will read it.

        Parameters
        ----------
        path : str or PathLike
            Of the file, by convention ``*.safetensors``. An existing one is replaced, in one step once all is written.

        Raises
        ------
        NotFittedError
            If the detector is not fitted.
        ValueError
            If it holds what a file cannot keep: a callable ``backbone``, an object as ``contamination``, a ``RandomState``, or
            a parameter that ``fit`` would not accept.
        OSError
            If the file cannot be written. What was at the path is still there.

        Examples
        --------
        >>> import os, tempfile
        >>> import numpy as np
        >>> from skmemae import MemAEDetector
        >>> X = np.random.default_rng(0).normal(size=(200, 3))
        >>> detector = MemAEDetector(max_epochs=2, random_state=0).fit(X)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = os.path.join(folder, "detector.safetensors")
        ...     detector.save(path)
        ...     again = MemAEDetector.load(path)
        >>> np.array_equal(again.decision_function(X), detector.decision_function(X))
        True
        """
        model, parameters = state_of(self._fitted_model()), self.get_params(deep=False)
        checked_detector(type(self), parameters)  # set_params may have set what load would refuse
        elsewhere = {*parameters, "_model", "_skl_callbacks", "_metadata_request"}
        attributes = {name: value for name, value in vars(self).items() if name not in elsewhere}
        _saving.write(path, _saving.Saved(parameters, attributes, model))

    @classmethod
    def load(cls, path):
        """Make a detector from a file that :meth:`save` wrote.

        No code of the file runs, and memory stays within a small multiple of its size, whoever has made it.

        Parameters
        ----------
        path : str or PathLike

        Returns
        -------
        detector : MemAEDetector
            Fitted; on the CPU where the device that it was saved on is absent.

        Raises
        ------
        FileNotFoundError
            If there is no such file.
        ValueError
            If the file is damaged, of a newer format, or was not written by :meth:`save`.

        Examples
        --------
        See :meth:`save`.
        """
        with _saving.errors_that_name(path):
            saved = _saving.read(path)
            detector = checked_detector(cls, saved.parameters)
            check_model(saved.model)
            attributes = {**ADDED, **saved.attributes}
            check_attributes(attributes, detector, saved.model)
            vars(detector).update(attributes, _model=model_of(saved.model))
        return detector

    def export_onnx(self, path):
        """Write the fitted detector as one ONNX graph, which runs without Python, torch and this package.

        All is in the graph: scaling, networks, memory, threshold, and that a training row is scored without its own memory
        item. The input is ``X``, float64, of the shape that ``fit`` saw, with any number of samples; the graph computes in
        float64 what the detector does, the scaling and the sums of scores, and in float32 the networks. The outputs are

        * ``score`` : float64, (n_samples,). The anomaly score, higher = more abnormal: ``-score_samples(X)`` under either
          convention.
        * ``label`` : int64, (n_samples,). What ``predict`` returns under the convention that is set now.
        * ``map`` : float32, of X's shape. What :meth:`anomaly_map` returns.

        Scores differ from those of the detector by rounding, by about a millionth. All samples of a call are scored together,
        so give large data in batches of about a thousand, or a few images or clips. The graph does not check X for missing
        values and infinity. While this runs, no other thread may fit or score: torch changes all modules to trace some.

        Parameters
        ----------
        path : str or PathLike
            Of the file, by convention ``*.onnx``. An existing one is replaced, in one step once all is written. Its metadata
            has ``version`` of this package, ``threshold``, ``convention`` and ``feature_names``, a JSON list or null.

        Raises
        ------
        NotFittedError
            If the detector is not fitted.
        ImportError
            If onnx or onnxscript are not installed.
        RuntimeError
            If torch cannot export the modules of a callable ``backbone``.
        OSError
            If the file cannot be written. What was at the path is still there.

        Examples
        --------
        >>> import os, tempfile
        >>> import numpy as np
        >>> import onnxruntime
        >>> from skmemae import MemAEDetector
        >>> X = np.random.default_rng(0).normal(size=(200, 3))
        >>> detector = MemAEDetector(max_epochs=20, random_state=0).fit(X)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = os.path.join(folder, "detector.onnx")
        ...     detector.export_onnx(path)
        ...     session = onnxruntime.InferenceSession(path)
        >>> score, label, map = session.run(None, {"X": np.array([[0.0, 0.1, 0.0], [9.0, -9.0, 9.0]])})
        >>> label.tolist()
        [0, 1]
        """
        model = self._fitted_model()
        names = getattr(self, "feature_names_in_", None)
        metadata = {
            "version": __version__,
            "threshold": repr(float(self.threshold_)),
            "convention": self.convention,
            "feature_names": json.dumps(None if names is None else list(names)),
        }
        codes = (1, -1) if self._is_sklearn else (0, 1)
        with replacing(path) as file:
            file.write(onnx_file(model, self.threshold_, codes, metadata))
