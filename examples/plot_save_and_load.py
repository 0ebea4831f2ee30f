"""
From a notebook to production
=============================

A detector is fitted once and often used for a long time on other machines. It can be
moved there in two ways: as a file for this package, or as a graph that runs without
Python.
"""

# %%
# A detector of wines, with names for its columns and a threshold that is not the
# default.
import tempfile
import time
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import onnxruntime
from sklearn.datasets import load_wine

from skmemae import MemAEDetector

wine = load_wine(as_frame=True)
X, new = wine.data[wine.target == 1], wine.data[wine.target != 1]
detector = MemAEDetector(contamination=0.02, random_state=0).fit(X)
detector.set_threshold(false_alarm_rate=0.05)

folder = tempfile.TemporaryDirectory()
home = Path(folder.name)

# %%
# A file
# ------
#
# ``save`` writes one file, which contains no code. The detector from ``load`` has the
# same threshold, names and parameters, and gives the same scores to the bit.
detector.save(home / "wine.safetensors")
again = MemAEDetector.load(home / "wine.safetensors")
print((home / "wine.safetensors").stat().st_size // 1024, "KiB")
print(np.array_equal(again.decision_function(new), detector.decision_function(new)))
print(list(again.feature_names_in_[:3]))

# %%
# A graph
# -------
#
# ``export_onnx`` writes the whole way from rows to labels as an ONNX graph: scaling,
# memory, networks and threshold. It runs in C++, C#, Java, JavaScript or Rust; here it
# runs in Python, in four lines.
detector.export_onnx(home / "wine.onnx")
session = onnxruntime.InferenceSession(home / "wine.onnx")
print([(item.name, item.shape) for item in session.get_inputs()])
score, label, residuals = session.run(None, {"X": new.to_numpy()})
print(np.array_equal(label, detector.predict(new)))

# %%
# Scores agree to rounding, and a single row is scored faster.
expected = detector.decision_function(new)
print(f"largest relative difference {np.abs(score / expected - 1).max():.0e}")


def milliseconds(work, row=new[:1]):
    """Median time of a call."""
    times = []
    for _ in range(50):
        started = time.perf_counter()
        work(row)
        times.append(time.perf_counter() - started)
    return 1000 * np.median(times)


ways = {
    "decision_function": detector.decision_function,
    "onnxruntime": lambda row: session.run(["score"], {"X": row.to_numpy()}),
}
figure, axes = plt.subplots(1, 2, figsize=(9, 3.2), layout="constrained")
axes[0].scatter(expected, score, s=8)
axes[0].set(xlabel="decision_function", ylabel="onnxruntime", title="anomaly scores")
axes[1].barh(list(ways), [milliseconds(work) for work in ways.values()])
axes[1].set(xlabel="milliseconds", title="to score one row")
folder.cleanup()
plt.show()
