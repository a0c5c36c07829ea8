"""What a round of the workloads with many categories consists of: its files, and its jobs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmark import categorical_data
from benchmark.competitors import Competitor

SWEEP = (16, 20, 24)
"""How many buckets cost is compared for, as powers of two."""
SAME_RATE = {"ours-fit-ftrl": "ours-step-ftrl"}
"""Competitors that take the learning rate of another one, which does the same updates."""

Jobs = dict[str, tuple[Competitor, dict[str, Any]]]


def save(
    competitors: Sequence[Competitor], rows: int, folder: Path, *, workload: str = "m", quick: bool = False
) -> dict[str, Any]:
    """Writes the files that these competitors need; returns what every job says of them."""
    held_out = rows if quick else categorical_data.HELD_OUT
    texts = buckets(workload) if any(one.module == "categorical_vw" for one in competitors) else ()
    return categorical_data.save(rows, folder, held_out=held_out, texts=texts)


def jobs(workload: str, competitors: Sequence[Competitor], data: Mapping[str, Any]) -> Jobs:
    """The jobs by the names of their rows: each competitor once, or once for each number of buckets."""
    chosen = categorical_data.rates()
    found: Jobs = {}
    for one in competitors:
        own = chosen[SAME_RATE.get(one.name, one.name)]
        for bits in buckets(workload):
            name = row_of(one.name, bits) if workload == "n" else one.name
            found[name] = one, job(one, data, own["rate"], own["setting"], bits=bits)
    return found


def job(
    competitor: Competitor,
    data: Mapping[str, Any],
    rate: float,
    setting: str,
    *,
    bits: int = categorical_data.BITS,
    passes: int = 2,
    judged: str = "test",
) -> dict[str, Any]:
    """The input of `benchmark.categorical`."""
    how = {"rate": rate, "setting": setting, "bits": bits, "passes": passes, "judged": judged}
    return {**data, "module": competitor.module, "function": competitor.function, **how}


def buckets(workload: str) -> tuple[int, ...]:
    """The numbers of buckets, as powers of two."""
    return SWEEP if workload == "n" else (categorical_data.BITS,)


def row_of(name: str, bits: int) -> str:
    """The name of a competitor's row for a number of buckets."""
    return f"{name}, 2^{bits}"


def compare(answers: dict[str, dict[str, Any]]) -> None:
    """Adds the ratio to the same competitor's cost with the fewest buckets."""
    for name, answer in answers.items():
        fewest = answers.get(row_of(name.partition(",")[0], SWEEP[0]), {})
        if name != row_of(name.partition(",")[0], SWEEP[0]) and "seconds" in answer and "seconds" in fewest:
            answer["to_fewest"] = answer["seconds"] / fewest["seconds"]
