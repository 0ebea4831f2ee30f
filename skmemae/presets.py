"""Parameters of MemAEDetector as plain dictionaries: for the paper's experiments, and for video on a CPU."""

from typing import Any

from skmemae.network import paper as _networks
from skmemae.network.backbones import frames_as_channels as _frames_as_channels

# Common to all experiments of the paper: cosine similarity (equation 5), softmax without a temperature (equation 4), alpha
# (section 3.4) and the learning rate (section 4). The paper gives lambda as a range, 1/N to 3/N, of which only the lower end
# leaves nonzero weights (docs/guide/memory.rst).
_COMMON: dict[str, Any] = {
    "similarity": "cosine",
    "temperature": 1.0,
    "shrink_threshold": 1.0,
    "entropy_weight": 2e-4,
    "learning_rate": 1e-4,
    "anomaly_score": "reconstruction",
    "scaling": "minmax",
    "ensemble_size": 1,
}

# The paper does not say how images are scaled, and its code computes dot products where equation 5 has the cosine. Both matter
# much on images (docs/what_works.md).
_IMAGES: dict[str, Any] = {"memory_unit": "sample", "similarity": "dot", "scaling": "contrast", "batch_size": 64}

# The paper does not give batch size and epochs; with these the training loss nearly converges.
_PAPER: dict[str, dict[str, Any]] = {
    "mnist": {
        **_IMAGES,
        "backbone": _networks.mnist,
        "memory_size": 100,
        "max_epochs": 60,
    },
    "cifar10": {
        **_IMAGES,
        "backbone": _networks.cifar10,
        "memory_size": 500,
        "max_epochs": 15,
    },
    "video": {
        "backbone": _networks.video,
        "memory_unit": "location",
        "memory_size": 2000,
        "batch_size": 14,
        "max_epochs": 60,
    },
    "kddcup99": {
        "backbone": _networks.kddcup99,
        "memory_unit": "sample",
        "memory_size": 50,
        "batch_size": "auto",
        "max_epochs": 200,
    },
}


def paper(name: str) -> dict[str, Any]:
    """Parameters of one of the paper's experiments.

    Parameters
    ----------
    name : {"mnist", "cifar10", "video", "kddcup99"}
        The experiment. Most settings are printed in the paper; batch size, epochs and scaling are not, and were chosen here
        to come near its results. For images, the similarity is the dot product of the authors' code, not the printed cosine.

    Returns
    -------
    parameters : dict
        For ``MemAEDetector(**parameters)``; a new dictionary that may be changed. Settings of the paper's ablations:
        ``memory_size=0`` (AE), ``shrink_threshold=0`` or ``entropy_weight=0`` (without shrinkage or entropy loss), and both
        (MemAE-nonSpar).

    Raises
    ------
    ValueError
        If the name is unknown.

    Examples
    --------
    >>> from skmemae import MemAEDetector, presets
    >>> detector = MemAEDetector(**presets.paper("mnist"), random_state=0)
    >>> detector.memory_size
    100
    """
    if name not in _PAPER:
        raise ValueError(f"The 'name' parameter of paper must be one of {sorted(_PAPER)}. Got {name!r} instead.")
    return {**_COMMON, **_PAPER[name]}


def small_video() -> dict[str, Any]:
    """Parameters for training on clips of a fixed camera on a CPU.

    Use them with ``ClipWindows(length=9, changes=True, cell=...)``, with a cell that leaves about 60 to 100 cells along the
    smaller side of a frame. Frames are the channels of 2-D convolutions, each location has a query, and the memory heads
    compose a read-out from parts of different memory items, so that a small memory reconstructs the variety of normal motion.
    The anomaly score multiplies the error of the worst places by the distance of the motion in a clip from the motion in the
    training clips, in reference features.

    Returns
    -------
    parameters : dict
        For ``MemAEDetector(**parameters)``; a new dictionary that may be changed.

    Examples
    --------
    >>> from skmemae import MemAEDetector, presets
    >>> detector = MemAEDetector(**presets.small_video(), random_state=0)
    >>> detector.anomaly_score
    'local-paces'
    """
    return {
        "backbone": _frames_as_channels,
        "memory_unit": "location",
        "memory_size": 100,
        "temperature": 0.02,
        "anomaly_score": "local-paces",
        "batch_size": 8,
        "max_epochs": 12,
    }
