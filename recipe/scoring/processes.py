"""The processes that a launcher started to work together, on one machine or several."""

import os
import time
from datetime import timedelta

# A process may have the rows of days to itself.
PATIENCE = timedelta(days=365)
POLL_SECONDS = 0.05


class Processes:
    """This process and those beside it.

    torch is imported only where there are several: one process alone has nobody to wait for.

    Attributes:
        rank: This one's number, from 0.
        count: Of all.
        on_this_machine: Of those that share its cores.
    """

    def __init__(self) -> None:
        """Read what torchrun or accelerate have set."""
        self.rank = int(os.environ.get("RANK", "0"))
        self.count = int(os.environ.get("WORLD_SIZE", "1"))
        self.on_this_machine = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))

    def join(self) -> None:
        """Let the processes find each other."""
        if self.count > 1:
            from accelerate import PartialState

            PartialState(cpu=True, timeout=PATIENCE)

    def wait(self) -> None:
        """Return when all of them have come here."""
        if self.count > 1:
            from torch import distributed

            arrived = distributed.barrier(async_op=True)
            # Within torch's own wait no signal would be seen.
            while not arrived.is_completed():
                time.sleep(POLL_SECONDS)

    def leave(self) -> None:
        """Take leave of the others, once none is waited for any more."""
        if self.count > 1:
            from torch import distributed

            distributed.destroy_process_group()
