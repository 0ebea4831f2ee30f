"""What a detector with a fitted model shows beside its scores, and how it checks and moves what it holds."""

import numpy as np
import torch
from sklearn.utils.validation import _check_n_features, check_array, check_is_fitted, validate_data

from skmemae._contract import DualContractDetector
from skmemae._data.sources import RowSource, as_source
from skmemae._explanation import Explanation, explain
from skmemae._frames import like, not_a_number
from skmemae._model import FittedModel


class InspectableDetector(DualContractDetector):
    """Methods that follow from ``_model``, a :class:`FittedModel` that the subclass sets in ``fit``."""

    _model: FittedModel

    @property
    def model_(self):
        """The trained networks."""
        return self._fitted_model().networks

    @property
    def memory_(self):
        """The memory items of all networks."""
        return self._fitted_model().items()

    @property
    def device_(self):
        """Where scoring runs."""
        return str(self._fitted_model().device)

    def to(self, device):
        """Move the fitted detector to another device, where it scores from then on.

        Parameters
        ----------
        device : str
            "auto", "cpu", "cuda", "cuda:1", "mps", ...

        Returns
        -------
        self : object
            The ``device`` parameter, which is for ``fit``, stays as it was.

        Raises
        ------
        ValueError
            If the device cannot be used here. The detector is then as it was.
        """
        self._fitted_model().to(device)
        return self

    def score_samples(self, X):
        """Normality of samples under either convention.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...)

        Returns
        -------
        scores : ndarray of shape (n_samples,), float64
            Minus the anomaly score: higher = more normal.
        """
        return -self._fitted_model().scores(self._check_scoring(X))

    def reconstruct(self, X):
        """Reconstruct samples from the memory.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...)

        Returns
        -------
        reconstruction : ndarray of X's shape, or DataFrame
            In the units of X, the mean over the networks; float64 for float64 X, else float32. For a DataFrame one with
            the same columns and index.
        """
        return like(X, self._fitted_model().reconstruct(self._check_scoring(X)))

    def anomaly_map(self, X):
        """Squared residual of every number of each sample.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...)

        Returns
        -------
        map : ndarray of X's shape, or DataFrame, float32
            In scaled units, not negative, higher = more abnormal, the mean over the members. The sum over a sample is its
            squared error, which is the anomaly score of ``anomaly_score="reconstruction"`` with one member, but for the
            samples trained on whose scores are raised (``decision_scores_``). For a DataFrame one with the same columns and
            index.
        """
        return like(X, self._fitted_model().residuals(self._check_scoring(X)))

    def explain(self, X, n_items=5):
        """Why samples have their scores: what each number adds, what was expected instead, which memory items answered.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...)
        n_items : int, default=5
            Number of memory items to name for each sample.

        Returns
        -------
        explanation : Explanation
            With ``shares`` that sum to the scores, ``values`` and ``expected`` ones in the units of X, ``items`` and their
            ``weights``, and for images and clips ``regions``.

        Raises
        ------
        ValueError
            If ``n_items`` is not accepted.

        Examples
        --------
        >>> import numpy as np
        >>> from skmemae import MemAEDetector
        >>> X = np.random.default_rng(0).normal(size=(300, 3))
        >>> explanation = MemAEDetector(random_state=0).fit(X).explain([[0.0, 7.0, 0.0]])
        >>> explanation.shares.argmax(axis=1)
        array([1])
        >>> bool(np.isclose(explanation.shares.sum(), explanation.scores[0]))
        True
        """
        model = self._fitted_model()
        if not isinstance(n_items, int | np.integer) or isinstance(n_items, bool) or n_items < 1:
            raise ValueError(f"The 'n_items' parameter of explain must be a positive int. Got {n_items!r} instead.")
        found: dict = explain(model, self._check_scoring(X), int(n_items), self.memory_rows_)
        index = X.index if hasattr(X, "index") and hasattr(X, "columns") else None
        return Explanation(**found, feature_names=getattr(self, "feature_names_in_", None), index=index)

    def addressing_weights(self, X):
        """Weights with which the memory items answer each sample (equation 7, renormalised).

        Parameters
        ----------
        X : array-like of shape (n_samples, ...)

        Returns
        -------
        weights : ndarray of shape (n_samples, ensemble_size * N) or (n_samples, \\*positions, ensemble_size * N), float32
            Not negative; each row sums to 1. Columns are those of :attr:`memory_`; each network's sum to 1 over
            ``ensemble_size``. The second shape comes with ``memory_unit="location"``.

        Raises
        ------
        ValueError
            If there is no memory (``memory_size=0``).
        """
        return self._with_memory("addressing_weights").weights(self._check_scoring(X))

    def decode_memory(self, items=None):
        """Decode memory items as if each answered alone (figure 3 of the paper).

        Parameters
        ----------
        items : array-like of int or None, default=None
            Rows of :attr:`memory_` to decode, all for None.

        Returns
        -------
        samples : ndarray of shape (n_items, \\*shape of a sample of X), float32
            In the units of X. For None ``n_items`` is ``ensemble_size * N``.

        Raises
        ------
        ValueError
            If there is no memory (``memory_size=0``), or an item is none of it.
        """
        model = self._with_memory("decode_memory")
        n_items = self.memory_usage_.size
        numbers = np.arange(n_items) if items is None else np.asarray(items)
        numbers = numbers if numbers.size else numbers.astype(int)
        if numbers.ndim != 1 or numbers.dtype.kind not in "iu" or not np.isin(numbers, np.arange(n_items)).all():
            raise ValueError(
                f"The 'items' parameter of decode_memory must be None or a list of int from 0 to {n_items - 1}. "
                f"Got {items!r} instead."
            )
        return model.decode_items(numbers)

    def channels_first(self, X):
        """Lay samples out as the network does, with values and dtype as they are.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...)
            Samples of the shape that ``fit`` saw, or what :meth:`reconstruct`, :meth:`anomaly_map` or :meth:`decode_memory`
            make of them.

        Returns
        -------
        samples : ndarray of shape (n_samples, \\*sample_shape_)

        Raises
        ------
        ValueError
            If the samples have another shape than those of ``fit``.
        """
        layout = self._fitted_model().layout
        X = np.asarray(X)
        self._check_shape(X, layout.array_shape)
        return layout.to_network(torch.from_numpy(X.astype(X.dtype.newbyteorder("=")))).numpy()

    def _fitted_model(self) -> FittedModel:
        check_is_fitted(self, "_model")
        return self._model

    def _with_memory(self, method) -> FittedModel:
        model = self._fitted_model()
        if not model.memories:
            raise ValueError(f"{method} needs a memory, but this {type(self).__name__} was fitted with memory_size=0.")
        return model

    def _check_samples(self, X, least, reset):
        """X as an array of finite numbers; a source that makes its rows on request checks them when they are read."""
        X = as_source(X)
        if isinstance(X, torch.Tensor):
            X = X.detach().cpu()
            X = (X.float() if X.dtype == torch.bfloat16 else X).numpy()
        if not isinstance(X, RowSource):
            return self._validated(X, least, reset)
        if len(X) < least:
            raise ValueError(f"Found array with {len(X)} sample(s) (shape={X.shape}) while a minimum of {least} is required.")
        if reset:
            self.__dict__.pop("feature_names_in_", None)  # of an earlier fit on a DataFrame
        _check_n_features(self, X, reset=reset)
        return X

    def _validated(self, X, least, reset):
        try:
            with np.errstate(over="ignore", invalid="ignore"):  # the check sums X, which may overflow
                checked = validate_data(self, X, dtype="numeric", allow_nd=True, ensure_min_samples=least, reset=reset)
                if checked.dtype.kind in "mM":
                    raise ValueError(f"X holds times, of dtype {checked.dtype}.")
                # Of polars, and of categories of pandas, it returns objects.
                return check_array(checked.astype(np.float64), allow_nd=True) if checked.dtype.kind == "O" else checked
        except (TypeError, ValueError) as error:
            found = not_a_number(X)
            if found is None:
                raise
            raise ValueError(
                f"Column {found[0]!r} of X holds {str(found[1])!r}, which could not be converted to a number. Encode such "
                "columns before, for example by OneHotEncoder in a ColumnTransformer of scikit-learn."
            ) from error

    def _check_scoring(self, X, least=1):
        """X checked against the training data."""
        expected = self._fitted_model().layout.array_shape
        if len(expected) > 1 and tuple(getattr(X, "shape", ())) == expected:
            raise ValueError(f"X has shape {expected}, which is one sample; {type(self).__name__} takes many: give X[None].")
        X = self._check_samples(X, least, reset=False)
        self._check_shape(X, expected)
        return X

    def _check_shape(self, X, expected):
        if X.shape[1:] != expected:
            raise ValueError(
                f"X has samples of shape {X.shape[1:]}, but {type(self).__name__} is expecting samples of shape "
                f"{expected} as input."
            )
