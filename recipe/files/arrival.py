"""Pass items on as they arrive, from a reader that may pause."""

from collections.abc import Iterable, Iterator
from queue import Empty, Queue
from threading import Thread
from typing import TypeVar

Item = TypeVar("Item")
# Seconds without a new item that end a list: far more than a pipe takes, and nothing to somebody who types.
PAUSE = 0.2


def arriving(items: Iterable[Item], size: int) -> Iterator[list[Item]]:
    """Yield lists of up to `size` items; a list ends early where the next item does not come at once.

    A thread reads the items. What it raises is raised once the items before are passed on.
    """
    held: list[Item] = []
    queue: Queue[tuple[list[Item], BaseException | None, bool]] = Queue(2 * size)
    Thread(target=_read, args=(items, queue), daemon=True).start()
    while True:
        try:
            item, error, more = queue.get(timeout=PAUSE if held else None)
        except Empty:
            item, error, more = [], None, True
        held += item
        if held and (not item or len(held) == size):
            yield held
            held = []
        if error:
            raise error
        if not more:
            return


def _read(items: Iterable[Item], queue: "Queue[tuple[list[Item], BaseException | None, bool]]") -> None:
    """Put each item into the queue, and how they end."""
    try:
        for item in items:
            queue.put(([item], None, True))
    except BaseException as error:
        queue.put(([], error, False))
    else:
        queue.put(([], None, False))
