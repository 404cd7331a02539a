"""Decode files in threads, in order."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Argument = TypeVar("Argument")
Result = TypeVar("Result")


def in_order(
    function: Callable[[Argument], Result],
    arguments: Iterable[Argument],
    workers: int,
    ahead: int,
    size: Callable[[Argument], int] = lambda _: 1,
) -> Iterator[Result]:
    """Map with `workers` threads, results in order.

    Memory is bounded: the sizes of the results waiting for the consumer add up to at most `ahead`, plus one result.
    """
    with ThreadPoolExecutor(workers) as pool:
        pending: deque[tuple[Future, int]] = deque()
        waiting = 0
        try:
            for argument in arguments:
                pending.append((pool.submit(function, argument), size(argument)))
                waiting += pending[-1][1]
                while waiting > ahead:
                    future, freed = pending.popleft()
                    waiting -= freed
                    yield future.result()
            while pending:
                yield pending.popleft()[0].result()
        finally:
            for future, _ in pending:
                future.cancel()
