"""The README's Python runs as printed and does what its comments say."""

import ast
import re
from pathlib import Path

import numpy as np
from media import write_video
from sklearn.metrics import roc_auc_score

README = Path(__file__).parents[1] / "README.md"
BLOCKS = re.findall(r"```python\n(.*?)```", README.read_text(), flags=re.DOTALL)


def run(block):
    """Names after the block, and the values of its expressions by their text."""
    names, values = {}, {}
    for statement in ast.parse(block).body:
        text = ast.unparse(statement)
        if isinstance(statement, ast.Expr):
            values[text] = eval(text, names)
        else:
            exec(text, names)
    return names, values


def test_ten_lines():
    names, values = run(BLOCKS[0])
    detector, new, held_out = names["detector"], names["new"], names["X"][names["y"] == 1][300:]
    scores, labels = values["detector.decision_function(new)"], values["detector.predict(new)"]
    y, all_scores = np.repeat([0, 1], [len(held_out), len(new)]), np.r_[detector.decision_function(held_out), scores]
    assert roc_auc_score(y, all_scores) > 0.9
    assert set(labels) == {0, 1} and np.array_equal(labels, scores > detector.threshold_)
    assert 0.65 < labels.mean() < 0.85  # three in four
    assert detector.predict(held_out).mean() < 0.12  # one false alarm in twenty, of 57 rows
    p_values = values["detector.p_values(new)"]
    assert p_values.shape == scores.shape and ((p_values <= 0.05) == labels).mean() > 0.98
    shares = values["detector.explain(new).shares"]
    assert shares.shape == new.shape and np.allclose(shares.sum(axis=1), scores)


def test_from_video_files_to_a_curve(tmp_path, monkeypatch, rng):
    monkeypatch.chdir(tmp_path)
    for name, speed in (("normal.mp4", 1), ("new.mp4", 4)):
        frames = rng.normal(100, 3, size=(48, 32, 48))
        for t, frame in enumerate(frames):
            left = (t // 2 if t < 24 else 12 + speed * (t - 24) // 2) % 40
            frame[12:20, left : left + 4] += 80
        colours = np.repeat(frames.clip(0, 255).astype(np.uint8)[..., None], 3, axis=3)
        write_video(name, colours)
    names, values = run(BLOCKS[1].replace("small_video(),", "small_video() | {'max_epochs': 2},"))
    (curve,) = [value for text, value in values.items() if text.startswith("NormalityDisplay")]
    assert curve.normality.shape == (48,) and curve.normality[:18].mean() > curve.normality[30:].mean()


def test_it_is_short():
    assert len(README.read_text().splitlines()) <= 120
