"""The network leaves for other runtimes through torch's own exporter."""

import numpy as np
import pytest
import torch

from skmemae import MemAEDetector


class Reconstruction(torch.nn.Module):
    def __init__(self, network):
        super().__init__()
        self.network = network

    def forward(self, x):
        return self.network(x).reconstruction


@pytest.mark.filterwarnings("ignore")
def test_onnx_gives_the_same_reconstructions(table, tmp_path):
    onnx = pytest.importorskip("onnx")
    reference = pytest.importorskip("onnx.reference")
    pytest.importorskip("onnxscript")
    X, _ = table
    network = MemAEDetector(max_epochs=3, random_state=0).fit(X).model_[0]
    rows = torch.export.Dim("rows")
    program = torch.onnx.export(
        Reconstruction(network).eval(), (torch.zeros(4, 6),), dynamic_shapes=({0: rows},), dynamo=True, verbose=False
    )
    program.save(tmp_path / "memae.onnx")
    session = reference.ReferenceEvaluator(onnx.load(tmp_path / "memae.onnx"))
    x = np.random.default_rng(0).normal(size=(7, 6)).astype(np.float32)
    with torch.no_grad():
        expected = network(torch.from_numpy(x)).reconstruction.numpy()
    np.testing.assert_allclose(session.run(None, {session.input_names[0]: x})[0], expected, atol=1e-5)
