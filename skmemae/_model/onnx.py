"""A fitted detector as one ONNX graph, from X to score, label and map: the modules of the model as torch traces them."""

import contextlib
import copy
import importlib
import logging
import warnings
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from skmemae._model.fitted import FittedModel
from skmemae._runtime import isolated

_EXAMPLES = 3  # samples that the graph is traced with; 0 and 1 would be taken for constants
_LOGGERS = ("torch.onnx", "torch.export", "onnxscript", "onnx_ir")


def onnx_file(model: FittedModel, threshold: float, codes: tuple[int, int], metadata: dict[str, str]) -> bytes:
    """The content of an ONNX file with the input "X" and the outputs "score", "label" and "map".

    Parameters
    ----------
    model : FittedModel
        It is not changed or moved.
    threshold : float
        Anomaly score above which a sample is an outlier.
    codes : tuple of int
        Labels of inliers and of outliers.
    metadata : dict of str to str
        Properties of the file.

    Raises
    ------
    ImportError
        If onnx or onnxscript are not installed.
    RuntimeError
        If torch cannot export the networks.
    """
    try:
        for name in ("onnx", "onnxscript"):
            importlib.import_module(name)
    except ImportError as error:
        raise ImportError('export_onnx needs onnx and onnxscript: pip install "skmemae[onnx]"') from error
    with _silence():
        try:
            program = _export(model, threshold, codes)
        except Exception as error:
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise RuntimeError(
                "export_onnx cannot export this detector. The modules of a callable backbone must not depend on the values or "
                "the number of samples, and use operations that ONNX has; no other thread may use networks meanwhile. torch "
                f"says: {reason}"
            ) from error
    for node in program.model.graph.all_nodes():
        node.metadata_props.clear()  # lines and paths of the code that made it
    program.model.producer_name, program.model.producer_version = "skmemae", metadata["version"]
    program.model.metadata_props.update(metadata)
    return program.model_proto.SerializeToString()


@isolated
@torch.no_grad()
def _export(model: FittedModel, threshold: float, codes: tuple[int, int]) -> Any:
    graph = _Labelled(copy.deepcopy(model).cpu(), threshold, codes).eval()
    X = torch.zeros(_EXAMPLES, *model.layout.array_shape, dtype=torch.float64)
    shapes = ({0: torch.export.Dim("n_samples")},)
    program = torch.export.export(graph, (X,), dynamic_shapes=shapes, strict=False)
    names: dict[str, Any] = {"input_names": ["X"], "output_names": ["score", "label", "map"]}
    return torch.onnx.export(program, dynamic_shapes=shapes, dynamo=True, verbose=False, **names)


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """Suppress the messages of torch's exporter."""
    loggers = [logging.getLogger(name) for name in _LOGGERS]
    levels = [logger.level for logger in loggers]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            for logger in loggers:
                logger.setLevel(logging.ERROR)
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)


class _Labelled(nn.Module):
    """The model with labels: X of float64, (n_samples, \\*array_shape) -> score, label and map.

    A sample with a value that is not finite is an outlier with the score inf, and its map is inf at these values.
    """

    def __init__(self, model: FittedModel, threshold: float, codes: tuple[int, int]):
        super().__init__()
        self.model = model
        self.threshold = threshold
        self.codes = codes

    def forward(self, X: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        finite = torch.isfinite(X)
        is_whole = finite.flatten(1).all(dim=1)
        shape = (-1, *[1] * (X.ndim - 1))
        score, residuals = self.model(torch.where(is_whole.view(shape), X, 0.0))
        inlier, outlier = (torch.tensor(code) for code in self.codes)
        label = torch.where(is_whole & (score <= self.threshold), inlier, outlier)
        score = torch.where(is_whole, score, torch.inf)
        missing = torch.where(finite, 0.0, torch.inf).to(residuals)
        return score, label, torch.where(is_whole.view(shape), residuals, missing)
