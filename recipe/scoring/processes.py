"""Coordinate the processes that a launcher started, on one machine or several."""

import os
import time
from datetime import timedelta

# One process may score for days after the others are done.
BARRIER_TIMEOUT = timedelta(days=365)
POLL_SECONDS = 0.05


class Processes:
    """This process and its peers; torch is imported only where there are peers.

    Attributes:
        rank: This process's number, from 0.
        count: Number of processes.
        on_this_machine: Number of processes that share this machine's cores.
    """

    def __init__(self) -> None:
        """Read the environment that torchrun or accelerate have set."""
        self.rank = int(os.environ.get("RANK", "0"))
        self.count = int(os.environ.get("WORLD_SIZE", "1"))
        self.on_this_machine = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))

    def wait(self) -> None:
        """Return once all processes are here; the first call connects them."""
        if self.count > 1:
            from accelerate import PartialState
            from torch import distributed

            PartialState(cpu=True, timeout=BARRIER_TIMEOUT)
            arrived = distributed.barrier(async_op=True)
            # torch's own wait would hold back signals.
            while not arrived.is_completed():
                time.sleep(POLL_SECONDS)

    def disconnect(self) -> None:
        """Destroy the process group."""
        if self.count > 1:
            from torch import distributed

            distributed.destroy_process_group()
