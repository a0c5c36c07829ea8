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
    """The results in the order of the items, which are made in the caller's thread, some ahead.

    The first item is done before others are made, which may build on it. An error comes after the results of the items
    before it; other work that has begun is waited for.
    """
    source = iter(items)
    for item in source:
        yield work(item)
        break
    else:
        return
    pool: ThreadPoolExecutor | None = None
    waiting: deque[Future[Result]] = deque()
    failed: Exception | None = None
    try:
        while True:
            try:
                item = next(source)
            except StopIteration:
                break
            except Exception as error:  # noqa: BLE001  it is raised when the results before it are taken
                failed = error
                break
            pool = pool or ThreadPoolExecutor(THREADS, thread_name_prefix="table")
            waiting.append(pool.submit(work, item))
            while waiting and (len(waiting) >= THREADS + AHEAD or waiting[0].done()):
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
        if failed is not None:
            raise failed
    finally:
        if pool is not None:
            pool.shutdown(cancel_futures=True)
