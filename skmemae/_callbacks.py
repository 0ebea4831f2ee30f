"""Callbacks of scikit-learn 1.9 and newer: a fit tells them of its networks and epochs."""

import copy
from dataclasses import replace

import torch

from skmemae._train.distributed import SingleProcess

try:
    from sklearn.callback import CallbackSupportMixin, with_callbacks
except ImportError:  # of older versions

    class CallbackSupportMixin:  # type: ignore[no-redef]
        """Stands for scikit-learn's class of this name."""

    def with_callbacks(method):
        """Stands for scikit-learn's function of this name."""
        return method


def has_callbacks(estimator) -> bool:
    """Whether callbacks are to be told of a fit."""
    return bool(getattr(estimator, "_skl_callbacks", None))


class FitTasks:
    """A fit as nested tasks: networks in it, and epochs in these.

    Parameters
    ----------
    estimator : MemAEDetector
        With callbacks.
    X, y : array-like
        What ``fit`` was given, for the callbacks.
    """

    def __init__(self, estimator, X, y):
        self.estimator = estimator
        self.data = {"X": X, "y": y}

    def begin(self, model, loader, rows, max_epochs: int) -> None:
        """Enter the fit of a model, whose networks train on some rows of a loader."""
        self.model, self.loader, self.rows, self.max_epochs = model, loader, rows, max_epochs
        self.trained: list = []
        self.fit = self.estimator._init_callback_context(max_subtasks=len(model.networks))
        self._begin(self.fit)

    def begin_network(self) -> None:
        """Enter the training of the next network."""
        self.network = self.fit.subcontext("network", max_subtasks=self.max_epochs)
        self._begin(self.network)

    def begin_epoch(self) -> None:
        """Enter the next epoch."""
        self.epoch = self.network.subcontext("epoch")
        self._begin(self.epoch)

    def end_epoch(self, network) -> bool:
        """Leave an epoch, after which the network is as given; whether a callback wants to stop its training."""
        return self._end(self.epoch, network)

    def end_network(self, network) -> None:
        """Leave the training of a network."""
        self.trained.append(network)
        self._end(self.network)

    def end(self, model) -> None:
        """Leave the fit of a model that is complete."""
        self.model = model
        self._end(self.fit)

    def _begin(self, context):
        context.call_on_fit_task_begin(estimator=self.estimator, **self.data)

    def _end(self, context, *networks) -> bool:
        def fitted():  # costs a pass over the samples, and is called if a callback wants it
            return vars(self._fitted([*self.trained, *networks]))

        return context.call_on_fit_task_end(estimator=self.estimator, reconstruction_attributes=fitted, **self.data)

    def _fitted(self, networks):
        """The estimator as if the fit had stopped with these networks.

        One that has no memory yet does not count beside others that have.
        """
        if len(networks) > 1 and networks[-1].memory is None and networks[0].memory is not None:
            networks = networks[:-1]
        model = replace(self.model, networks=torch.nn.ModuleList(copy.deepcopy(networks)).eval())
        fitted = type(self.estimator)(**self.estimator.get_params(deep=False))
        fitted._model = model
        fitted._set_training_scores(model.score_training(self.loader, self.rows, SingleProcess()).scores)
        return fitted
