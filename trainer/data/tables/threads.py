"""Work on parts of a table in threads, with a bounded number of parts in memory."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

THREADS = 2
AHEAD = 2
"""Parts that wait for a thread."""
Item = TypeVar("Item")
Result = TypeVar("Result")


def in_order(items: Iterable[Item], work: Callable[[Item], Result]) -> Iterator[Result]:
    """The results in the order of the items. The first item is done before others are taken, which may build on it.

    The items are made in the caller's thread. An error ends it; work that has begun is waited for.
    """
    source = iter(items)
    for item in source:
        yield work(item)
        break
    pool = ThreadPoolExecutor(THREADS, thread_name_prefix="table")
    waiting: deque[Future[Result]] = deque()
    try:
        for item in source:
            waiting.append(pool.submit(work, item))
            while waiting and (len(waiting) >= THREADS + AHEAD or waiting[0].done()):
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)
