"""
PyOD's ADEngine picks the detector
==================================

``ADEngine`` of PyOD looks at the data, plans which detectors to run, runs them and
reports. It reads its knowledge from a folder of files.
:func:`~skmemae.knowledge.write_knowledge` writes such a folder, PyOD's own with MemAE
added to it.
"""

# %%
# The breast cancer data with forty malignant tumours among the benign ones; the engine
# gets no labels.
import contextlib
import io
import tempfile

import matplotlib.pyplot as plt
import numpy as np
from pyod.utils.ad_engine import ADEngine
from sklearn.datasets import load_breast_cancer
from sklearn.metrics import RocCurveDisplay, roc_auc_score

from skmemae.knowledge import write_knowledge

cancer = load_breast_cancer()
rng = np.random.default_rng(0)
malignant = rng.choice(np.flatnonzero(cancer.target == 0), 40, replace=False)
rows = np.r_[np.flatnonzero(cancer.target == 1), malignant]
X, y = cancer.data[rows], 1 - cancer.target[rows]

# %%
# The folder is read when the engine is made, piece by piece, so it must stay as long as
# the engine does.
folder = tempfile.TemporaryDirectory()
engine = ADEngine(knowledge_dir=write_knowledge(folder.name), random_state=0)

# %%
# A plan, and the benchmark behind it.
plan = engine.plan_detection(engine.profile_data(X), priority="accuracy")
print(plan["detector_name"], plan["reason"], sep=": ")
print(engine.get_benchmarks("skmemae"))

# %%
# An investigation: the first three detectors are run and compared.
state = engine.plan(engine.start(X), priority="accuracy")
with contextlib.redirect_stderr(io.StringIO()):  # PyOD's progress bars
    state = engine.analyze(engine.run(state))
for result in state.results:
    area = roc_auc_score(y, result["scores_train"])
    print(
        f"{result['detector_name']}: AUC {area:.3f}, {result['runtime_seconds']:.1f} s"
    )

# %%
# The labels show how well each detector ranks the tumours.
figure, ax = plt.subplots(figsize=(5, 4), layout="constrained")
for result in state.results:
    name, scores = result["detector_name"], result["scores_train"]
    RocCurveDisplay.from_predictions(y, scores, name=name, ax=ax)
ax.set(xlabel="false alarms", ylabel="malignant tumours found")

# %%
# The plan's detector is a fitted ``MemAEDetector`` with all its methods.
detector = next(r["detector"] for r in state.results if r["detector_name"] == "MemAE")
explanation = detector.explain(X[[np.argmax(detector.decision_scores_)]])
for column in np.argsort(-explanation.shares[0])[:3]:
    value, expected = explanation.values[0, column], explanation.expected[0, column]
    print(f"{cancer.feature_names[column]}: {value:.3g}, expected {expected:.3g}")
folder.cleanup()
plt.show()
