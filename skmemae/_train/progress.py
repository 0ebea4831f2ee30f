"""What is shown of training, and told to callbacks."""

import sys

from skmemae.network import MemAE


class Progress:
    """Nothing, a bar (verbose 1) or a line per epoch (verbose 2); callbacks are told in addition."""

    def __init__(self, n_networks: int, n_epochs: int, verbose: int, tasks=None, is_watched: bool = False):
        self.n_networks = n_networks
        self.n_epochs = n_epochs
        self.verbose = verbose
        self.tasks = tasks
        self.is_watched = is_watched  # also where another process tells the callbacks
        self.network = 0
        self.count = 0
        self.bar = None
        if verbose == 1:
            from tqdm.auto import tqdm  # warns where notebooks have no widgets, and starts a thread

            self.bar = tqdm(total=n_networks * n_epochs, desc="MemAE", unit="epoch")

    def __enter__(self):
        return self

    def __exit__(self, *error):
        if self.bar is not None:
            self.bar.close()

    def begin_network(self) -> None:
        """Count the epochs of the next network."""
        self.network, self.count = self.network + 1, 0
        if self.tasks is not None:
            self.tasks.begin_network()

    def end_network(self, network: MemAE) -> None:
        """Tell of a network that has been trained."""
        if self.tasks is not None:
            self.tasks.end_network(network)

    def begin_epoch(self) -> None:
        """Tell of an epoch that begins."""
        if self.tasks is not None:
            self.tasks.begin_epoch()

    def end_epoch(self, network: MemAE) -> bool:
        """Tell of an epoch that has ended; whether a callback wants the network to train no further."""
        return self.tasks is not None and self.tasks.end_epoch(network)

    def show(self, loss: float, validation_curve: list[float]) -> None:
        """Show one epoch."""
        self.count += 1
        shown = {"loss": f"{loss:.4g}"}
        if validation_curve:
            shown["validation"] = f"{validation_curve[-1]:.4g}"
        if self.bar is not None:
            self.bar.set_postfix(shown, refresh=False)
            self.bar.update()
        elif self.verbose > 1:
            which = f"network {self.network}/{self.n_networks}, " if self.n_networks > 1 else ""
            numbers = ", ".join(f"{name} {value}" for name, value in shown.items())
            print(f"{which}epoch {self.count}/{self.n_epochs}: {numbers}", file=sys.stdout)
