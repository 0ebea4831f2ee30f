"""Connections to scikit-learn's HTML representation in notebooks and to its callbacks."""

import copy
from collections.abc import Callable
from typing import Any

from sklearn.base import BaseEstimator
from torch import nn

from skmemae._model.fitted import FittedModel
from skmemae._train.result import TrainingScores
from skmemae._train.run import Observer
from skmemae.network import Ensemble

try:  # from scikit-learn 1.9 on
    from sklearn.callback import CallbackSupportMixin, with_callbacks
except ImportError:

    class CallbackSupportMixin:  # type: ignore[no-redef]
        """Replaces scikit-learn's class of this name in versions without it."""

    def with_callbacks(method: Callable) -> Callable:
        """Replaces scikit-learn's function of this name in versions without it."""
        return method


DOCUMENTATION = "https://skmemae.readthedocs.io/en/stable/"  # where docs/ is published


class Documented(BaseEstimator):
    """scikit-learn's HTML repr with the project's documentation and the resolved parameters."""

    _doc_link_module = "skmemae"
    _doc_link_template = DOCUMENTATION + "generated/{estimator_module}.{estimator_name}.html"

    def _get_params_html(self, *args: Any, **kwargs: Any) -> Any:
        """scikit-learn's table of parameters, from 1.7 on, with the values to which ``fit`` resolved None and "auto"."""
        table = super()._get_params_html(*args, **kwargs)
        for name, resolved in getattr(self, "resolved_params_", {}).items():
            given = table.get(name)
            if given in (None, "auto") and resolved != given:
                table[name] = _Resolved(given, resolved)
        return table


class _Resolved:
    """A parameter whose repr shows its given and its resolved value."""

    def __init__(self, given: Any, resolved: Any):
        self._text = f"{given!r} → {resolved!r}"

    def __repr__(self) -> str:
        return self._text


def has_callbacks(estimator: Any) -> bool:
    """Whether the estimator has callbacks."""
    return bool(getattr(estimator, "_skl_callbacks", None))


class FitTasks(Observer):
    """Reports a fit to scikit-learn's callbacks as nested tasks: the fit, its networks, and the epochs of each network.

    Parameters
    ----------
    estimator : MemAEDetector
        It has callbacks.
    X, y : array-like
        Arguments of ``fit``, for the callbacks.
    """

    def __init__(self, estimator: Any, X: Any, y: Any):
        self.estimator = estimator
        self.data = {"X": X, "y": y}

    def begin(self, model: FittedModel, n_epochs: int, score: Callable[[FittedModel], TrainingScores]) -> None:
        self.model, self.n_epochs, self.score = model, n_epochs, score
        self.trained: list[nn.Module] = []
        self.fit = self.estimator._init_callback_context(max_subtasks=len(model.networks.networks))
        self._begin(self.fit)

    def begin_network(self) -> None:
        self.network = self.fit.subcontext("network", max_subtasks=self.n_epochs)
        self._begin(self.network)

    def begin_epoch(self) -> None:
        self.epoch = self.network.subcontext("epoch")
        self._begin(self.epoch)

    def end_epoch(self, network: nn.Module, loss: float, validation: float | None) -> bool:
        return self._end(self.epoch, lambda: self._model_of(network))

    def end_network(self, network: nn.Module) -> None:
        self.trained.append(network)
        self._end(self.network, lambda: self._model_of())

    def end(self, model: FittedModel) -> None:
        self._end(self.fit, lambda: copy.deepcopy(model))

    def _begin(self, context: Any) -> None:
        context.call_on_fit_task_begin(estimator=self.estimator, **self.data)

    def _end(self, context: Any, model: Callable[[], FittedModel]) -> bool:
        def fitted() -> dict[str, Any]:  # scores all samples, so it is called only if a callback asks
            estimator = type(self.estimator)(**self.estimator.get_params(deep=False))
            estimator._model = model()
            estimator._set_training_scores(self.score(estimator._model).scores)
            return vars(estimator)

        return context.call_on_fit_task_end(estimator=self.estimator, reconstruction_attributes=fitted, **self.data)

    def _model_of(self, *networks: nn.Module) -> FittedModel:
        """The model as if the fit had stopped now; a network in warm-up is included only if no other has been trained."""
        members = [*self.trained, *networks]
        if len(members) > 1 and members[-1].memory is None and members[0].memory is not None:
            members = members[:-1]
        model = copy.copy(self.model)
        model._modules = dict(self.model._modules)
        config = self.model.networks.config
        if not config["side_by_side"]:
            config = {**config, "members": len(members)}
        if members[0].memory is None:
            config = {**config, "memory_size": 0}
        model.networks = Ensemble(members, config)  # type: ignore[arg-type]
        model = copy.deepcopy(model).eval()
        model.score = type(model.score)(model.score.name, config["members"]).to(model.device)
        return model
