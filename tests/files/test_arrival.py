"""What has come is passed on, and nothing is lost or waited for."""

import threading
from collections.abc import Iterator

import pytest

from recipe.files.arrival import arriving


def test_items_that_come_at_once_fill_the_lists() -> None:
    assert [len(held) for held in arriving(range(25), 10)] == [10, 10, 5]
    assert [item for held in arriving(range(2500), 7) for item in held] == list(range(2500))
    assert list(arriving([], 10)) == []


def test_a_pause_ends_a_list() -> None:
    go_on = threading.Event()

    def pausing() -> Iterator[int]:
        yield from (1, 2)
        # Set once the list before has come: else this test would wait for long, and fail.
        assert go_on.wait(60)
        yield 3

    lists = arriving(pausing(), 10)
    assert next(lists) == [1, 2]
    go_on.set()
    assert list(lists) == [[3]]


def test_what_the_reader_raises_comes_behind_the_items_before_it() -> None:
    def breaking() -> Iterator[int]:
        yield from range(5)
        raise ValueError("broken")

    lists = arriving(breaking(), 3)
    assert next(lists) == [0, 1, 2] and next(lists) == [3, 4]
    with pytest.raises(ValueError, match="broken"):
        next(lists)
