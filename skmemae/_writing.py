"""Files that are whole or not there."""

import contextlib
import os
import tempfile


@contextlib.contextmanager
def replacing(path):
    """Open a file that takes the place of the one at the path, once the block has ended without an error.

    Parameters
    ----------
    path : str or PathLike

    Raises
    ------
    OSError
        If there is no such folder, or it cannot be written to; at the start of the block.
    """
    target = os.path.realpath(os.fsdecode(path))
    with tempfile.TemporaryDirectory(dir=os.path.dirname(target), prefix=".skmemae-") as folder:
        unfinished = os.path.join(folder, "unfinished")
        with open(unfinished, "wb") as file:  # a temporary file could be read by nobody else, also later
            yield file
        os.replace(unfinished, target)
