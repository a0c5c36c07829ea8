"""What a round of the workload with tables of any size consists of: its files, and its jobs."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmark import large_data

SIZES = (1_000_000, 10_000_000)
QUICK_SIZES = (4_000,)
IN_MEMORY = 30_000_000
"""The most rows that are also trained on in memory."""
MOST_PEER_ROWS = 10_000_000
MOST_READ = 1_000_000
"""The most rows that files are only read of, without training."""
LIMIT = 4 * 10**9
"""Bytes of private memory that a training from the cache may take: the system refuses more."""
PEERS = {
    "scikit-learn, partial_fit over record batches": "sklearn_partial",
    "PyTorch, an iterable dataset of Parquet parts": "torch_parquet",
    "Vowpal Wabbit, --sgd over its cache": "vowpal_wabbit",
}
MAKING, CACHED = "the first run, which makes the cache", "from the cache"
WINDOWS, TWO = "from the cache, in windows", "from the cache, in windows, two processes"
MEMORY = "in memory"
READING = {
    "CSV, streamed by pyarrow as text": "read_csv_as_text",
    "CSV, our three passes without writing": "pass_over_csv",
    "Parquet, streamed by pyarrow": "read_parquet",
    "Parquet, our three passes without writing": "pass_over_parquet",
}


@dataclass(frozen=True)
class Measured:
    """One process or several: their job and environment."""

    job: dict[str, Any]
    environment: str = "own"
    processes: int = 1


def folder() -> Path:
    """Where the tables are kept between rounds: making 10⁸ rows takes minutes. `TMPDIR` chooses another disk."""
    place = Path(tempfile.gettempdir()) / "gluon-trainer-bench"
    place.mkdir(exist_ok=True)
    return place


def words(rows: int, what: str) -> str:
    """The name of a row of the table."""
    exponent = len(str(rows)) - 1
    return f"10^{exponent} rows, {what}" if rows == 10**exponent else f"{rows:,} rows, {what}"


def jobs(sizes: tuple[int, ...], *, with_peers: bool) -> dict[str, Measured]:
    """The jobs by the names of their rows, in their order: the first run makes the cache that the next ones use.

    Writes the tables that are missing.
    """
    place = folder()
    found: dict[str, Measured] = {}
    first = min(sizes[0], MOST_READ)
    files = {"table": str(large_data.save_parquet(first, place)), "csv": str(large_data.save_csv(first, place))}
    for name, function in READING.items():
        found[words(first, name)] = Measured({**files, "rows": first, "module": "large_ours", "function": function})
    for rows in sizes:
        table = {"table": str(large_data.save_parquet(rows, place)), "rows": rows}
        ours = {**table, "module": "large_ours", "function": "train"}
        cache = {"cache": "on", "cache-dir": str(place / "cache")}
        if rows <= IN_MEMORY:
            found[words(rows, MEMORY)] = Measured({**ours, "options": {"cache": "off"}})
        made = {**cache, "cache": "rebuild", "order": "rows"}
        found[words(rows, MAKING)] = Measured({**ours, "options": made, "limit": LIMIT, "passes": 1})
        for name, options, processes in (
            (CACHED, {**cache, "order": "rows"}, 1),
            (WINDOWS, {**cache, "order": "windows"}, 1),
            (TWO, {**cache, "order": "windows"}, 2),
        ):
            job = {**ours, "options": options, "limit": LIMIT}
            found[words(rows, name)] = Measured(job, processes=processes)
        if with_peers and rows == sizes[-1] and rows <= MOST_PEER_ROWS:
            for name, function in PEERS.items():
                text = {"text": str(large_data.save_text(rows, place))} if function == "vowpal_wabbit" else {}
                job = {**table, **text, "module": "large_peers", "function": function}
                found[words(rows, name)] = Measured(job, environment="peers")
    return found


def compare(answers: dict[str, dict[str, Any]], sizes: tuple[int, ...]) -> None:
    """Adds the ratios to the same rows in memory, and of our passes to pyarrow's reading."""
    pairs = [(words(rows, name), words(rows, MEMORY)) for rows in sizes for name in (CACHED, WINDOWS, TWO)]
    readers = list(READING)
    first = min(sizes[0], MOST_READ)
    pairs += [(words(first, readers[number + 1]), words(first, readers[number])) for number in (0, 2)]
    for name, to in pairs:
        if "seconds" in answers.get(name, {}) and "seconds" in answers.get(to, {}):
            answers[name]["to_plain"] = answers[name]["seconds"] / answers[to]["seconds"]
