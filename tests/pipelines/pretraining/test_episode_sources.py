"""Episodes that are read ahead, step by step. Without a store."""

from __future__ import annotations

import threading

import pytest

from pipelines.pretraining.episode_sources import ahead, by_step


def test_items_come_in_order_and_a_few_are_made_ahead():
    made, one_more = [], threading.Semaphore(0)

    def items():
        for i in range(6):
            made.append(i)
            one_more.release()
            yield i, str(i)

    coming = ahead(items(), 2)
    assert made == []
    assert next(coming) == (0, "0")
    for _ in range(3):
        assert one_more.acquire(timeout=10)
    assert made == [0, 1, 2], "one that is used, two that wait"
    assert list(coming) == [(i, str(i)) for i in range(1, 6)]


def test_an_error_comes_in_the_place_of_its_item():
    def items():
        yield 0, "a"
        raise OSError("no such file")

    coming = ahead(items(), 3)
    assert next(coming) == (0, "a")
    with pytest.raises(OSError, match="no such file"):
        next(coming)


def test_a_reader_that_stops_early_leaves_no_thread():
    before = threading.active_count()
    coming = ahead(((i, "") for i in range(100)), 2)
    next(coming)
    coming.close()
    assert threading.active_count() == before


def test_steps_get_their_own_episodes_and_one_without_any_gets_none():
    episodes_of = by_step(iter([(3, "a"), (3, "b"), (5, "c")]))
    assert [list(episodes_of(step)) for step in (3, 4, 5, 6)] == [["a", "b"], [], ["c"], []]
