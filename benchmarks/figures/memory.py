"""Memory held by a process or a GPU, in bytes; for processes on Linux only, NaN elsewhere."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from time import sleep
from typing import Any

import torch


@contextmanager
def anonymous_memory() -> Iterator[list[float]]:
    """Yield a list of the process's anonymous bytes (no pages of files), extended a hundred times a second."""
    held, done = [held_bytes("RssAnon")], threading.Event()

    def watch() -> None:
        while not done.is_set():
            sleep(0.01)
            held.append(held_bytes("RssAnon"))

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield held
    finally:
        done.set()
        watcher.join()


def peak_bytes(work: Callable[[], Any], device: str = "cpu") -> float:
    """Peak bytes of the device's memory during ``work``, less the bytes held before it.

    On the CPU the peak is that of the whole process, so nothing larger may have run in it before.
    """
    if torch.device(device).type == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        work()
        return torch.cuda.max_memory_allocated() - before
    # Not ru_maxrss, which a new process inherits from its parent.
    before = held_bytes("VmRSS")
    work()
    return held_bytes("VmHWM") - before


def held_bytes(name: str) -> float:
    """Bytes in the line ``name`` of the process's status: "RssAnon", "VmRSS" or its peak, "VmHWM"."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return float("nan")
    return next((1024 * int(line.split()[1]) for line in lines if line.startswith(name)), float("nan"))
