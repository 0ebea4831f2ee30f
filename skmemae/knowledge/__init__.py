"""What PyOD's ``ADEngine`` must know to plan with and to run ``MemAEDetector``."""

import json
from pathlib import Path

from pyod.utils import knowledge

FILES = ("algorithms", "benchmarks", "papers", "routing_rules")


def write_knowledge(folder: str | Path) -> str:
    """Write a knowledge folder for PyOD's ``ADEngine``: PyOD's own, and MemAE in it.

    The rules that lead to MemAE come from ranks of nine detectors of PyOD and MemAE on 30 tables with outliers in the training
    data, all at their defaults: the rows behind the package's results. PyOD gives its first choices a confidence of at most
    0.9; the first rank here has 0.95, the next ones less by 0.05 each.

    Parameters
    ----------
    folder : path-like
        Made if it is not there. Files of the same names in it are replaced.

    Returns
    -------
    folder : str
        To be given as ``knowledge_dir``.

    Raises
    ------
    OSError
        If the folder cannot be made or written to.

    Examples
    --------
    >>> import tempfile
    >>> import numpy as np
    >>> from pyod.utils.ad_engine import ADEngine
    >>> from skmemae.knowledge import write_knowledge
    >>> X = np.random.default_rng(0).normal(size=(200, 30))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     engine = ADEngine(knowledge_dir=write_knowledge(folder), random_state=0)
    ...     plan = engine.plan_detection(engine.profile_data(X), priority="accuracy")
    ...     detector = engine.build_detector(plan)
    >>> detector
    MemAEDetector(random_state=0)
    """
    folder, theirs, ours = Path(folder), Path(knowledge.__file__).parent, Path(__file__).parent
    folder.mkdir(parents=True, exist_ok=True)
    for name in FILES:
        known, added = (json.loads((place / f"{name}.json").read_text(encoding="utf-8")) for place in (theirs, ours))
        if name == "routing_rules":
            known["rules"] = added["rules"] + known["rules"]
        else:
            known.update(added)
        (folder / f"{name}.json").write_text(json.dumps(known, indent=1), encoding="utf-8")
    return str(folder)
