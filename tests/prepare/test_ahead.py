"""Items are worked on ahead, several at once and not too many, and their results come in order."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from clp_transfer.prepare.ahead import worked_ahead


@pytest.mark.parametrize("threads", [1, 2, 5])
@pytest.mark.parametrize("limit", [1, 3, 100])
def test_results_come_in_the_items_order(threads: int, limit: int) -> None:
    with worked_ahead(iter(range(50)), str, threads=threads, limit=limit) as results:
        assert list(results) == [str(i) for i in range(50)]
    with worked_ahead(iter([None, 0]), lambda item: item, threads=threads, limit=limit) as nothing:
        assert list(nothing) == [None, 0]


def test_two_are_worked_on_at_once() -> None:
    meeting = threading.Barrier(2, timeout=10)
    with worked_ahead(iter(range(6)), lambda _: meeting.wait(), threads=2, limit=4) as results:
        assert len(list(results)) == 6  # one at a time would never meet


def test_no_more_is_drawn_than_the_limit() -> None:
    drawn = threading.Semaphore(0)

    def items() -> Iterator[int]:
        for number in range(100):
            drawn.release()
            yield number

    with worked_ahead(items(), lambda item: item, threads=1, limit=3) as results:
        for number, result in enumerate(results):
            assert result == number
            for _ in range(4 if number == 0 else 1):  # this one, and three that nobody has asked for
                assert drawn.acquire(timeout=10)
            if number == 5:
                break
        assert not drawn.acquire(timeout=0.2)


@pytest.mark.parametrize("where", ["drawing", "working"])
def test_an_error_is_raised_where_its_result_is_asked_for(where: str) -> None:
    def items() -> Iterator[int]:
        yield from (0, 1)
        if where == "drawing":
            raise ValueError("two")
        yield 2

    def work(item: int) -> int:
        if item == 2:
            raise ValueError("two")
        return item

    with worked_ahead(items(), work, threads=2, limit=10) as results:
        assert [next(results), next(results)] == [0, 1]
        with pytest.raises(ValueError, match="two"):
            next(results)


def test_leaving_early_drops_what_has_not_begun() -> None:
    done: list[int] = []
    with pytest.raises(KeyError), worked_ahead(iter(range(10**9)), done.append, threads=1, limit=4) as results:
        next(results)
        raise KeyError
    assert 1 <= len(done) < 10
