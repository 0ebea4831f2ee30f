"""The memory that a process or a GPU holds; on the CPU known on Linux alone, and NaN elsewhere."""

import threading
from contextlib import contextmanager
from pathlib import Path
from time import sleep

import torch


@contextmanager
def anonymous_memory():
    """Bytes that the process holds for itself, pages of files left out: at first, and then a hundred times a second."""
    held, done = [held_bytes("RssAnon")], threading.Event()

    def watch():
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


def peak_bytes(work, device="cpu") -> float:
    """The most memory of the device that the work takes beyond what is held before it.

    The peak of a process is that of its whole life, so on the CPU nothing larger may have run in it.
    """
    if torch.device(device).type == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        work()
        return torch.cuda.max_memory_allocated() - before
    # Not ru_maxrss, which a new process takes over from the one that started it.
    before = held_bytes("VmRSS")
    work()
    return held_bytes("VmHWM") - before


def held_bytes(name) -> float:
    """A line of the process's status: "RssAnon", "VmRSS" or its peak, "VmHWM"."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return float("nan")
    return next((1024 * int(line.split()[1]) for line in lines if line.startswith(name)), float("nan"))
