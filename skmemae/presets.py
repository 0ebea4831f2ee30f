"""Settings for a purpose as plain dictionaries of MemAEDetector's parameters: the paper's own, and one for video."""

from skmemae.network import paper as _networks
from skmemae.network.backbones import frames_as_channels as _frames_as_channels

# Common to all experiments of the paper: cosine similarity (equation 5), softmax without a temperature (equation 4), alpha
# (section 3.4) and the learning rate (section 4). Lambda is printed as a range, 1/N to 3/N, of which only the lower end
# leaves any weight standing (see the chapter on the memory).
_COMMON = {
    "similarity": "cosine",
    "temperature": 1.0,
    "shrink_threshold": 1.0,
    "entropy_weight": 2e-4,
    "learning_rate": 1e-4,
    "anomaly_score": "reconstruction",
    "scaling": "minmax",
    "memory_heads": 1,
    "ensemble_size": 1,
}

# Batch size and epochs are not printed in the paper; with these the training loss has come nearly to rest.
_PAPER = {
    "mnist": {
        "backbone": _networks.mnist,
        "memory_unit": "sample",
        "memory_size": 100,
        "batch_size": 64,
        "max_epochs": 100,
    },
    "cifar10": {
        "backbone": _networks.cifar10,
        "memory_unit": "sample",
        "memory_size": 500,
        "batch_size": 64,
        "max_epochs": 30,
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


def paper(name):
    """Parameters of the paper's own experiments.

    Parameters
    ----------
    name : {"mnist", "cifar10", "video", "kddcup99"}

    Returns
    -------
    parameters : dict
        For ``MemAEDetector(**parameters)``; change what you like. The paper's ablations are single settings of it:
        ``memory_size=0`` (AE), that with ``latent_l1=1e-4`` (AE-l1), ``shrink_threshold=0`` and ``entropy_weight=0``
        (either one, or both for MemAE-nonSpar).

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


def small_video():
    """Parameters for clips of a fixed camera that a CPU can train on.

    Made for clips of nine frames of changes, in cells that leave some 60 to 100 of them to the smaller side: what
    ``ClipWindows(length=9, changes=True, cell=...)`` cuts. The frames are the channels of 2-D convolutions, each location has a
    query, and a read-out is put together from parts of items, so that a small memory reconstructs all that people do.

    Returns
    -------
    parameters : dict
        For ``MemAEDetector(**parameters)``; change what you like.

    Examples
    --------
    >>> from skmemae import MemAEDetector, presets
    >>> detector = MemAEDetector(**presets.small_video(), random_state=0)
    >>> detector.anomaly_score
    'local'
    """
    return {
        "backbone": _frames_as_channels,
        "memory_unit": "location",
        "memory_size": 100,
        "memory_heads": 32,
        "temperature": 0.02,
        "anomaly_score": "local",
        "batch_size": 8,
        "max_epochs": 16,
    }
