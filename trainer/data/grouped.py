"""Splits rows by group: the rows of a group stay together, and each part gets its share of rows and classes."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trainer.data.stratified import TooFewRows
from trainer.seeds import derive

Integers = NDArray[np.int64]


def grouped_split(
    groups: NDArray[Any], classes: NDArray[Any], shares: Mapping[str, float], seed: int
) -> dict[str, Integers]:
    """The rows of each part, in ascending order, as int64; all rows of a group are in one part.

    `groups` and `classes` are numbers (rows,); `shares` are the parts' shares of all rows and sum to 1; the first part
    is the one to train on. Large groups are placed before small ones, each where the squared deviation from the shares
    of rows and of classes, relative to the part's size, grows least; the order among groups of about the same size is
    random, by the seed. No part is empty; if the groups allow it, every part has rows of every class, before all the
    first one. Raises TooFewRows if there are fewer groups than parts.
    """
    _, group = np.unique(groups, return_inverse=True)
    _, class_ = np.unique(classes, return_inverse=True)
    counts = _Counts.of(group.reshape(-1), class_.reshape(-1))
    if len(counts.sizes) < len(shares):
        raise TooFewRows(f"{len(counts.sizes)} groups are too few for {len(shares)} parts")
    # numpy promises the same raw numbers on every version, which it does not for shuffling.
    drawn = np.random.PCG64(derive(seed, "group split")).random_raw(len(counts.sizes))
    placed = _Placing(counts, list(shares.values()))
    placed.place_many(drawn)
    placed.place_others(drawn)
    placed.complete(drawn)
    part = placed.part[group.reshape(-1)]
    return {name: np.flatnonzero(part == number) for number, name in enumerate(shares)}


@dataclass(frozen=True)
class _Counts:
    """How many rows of each class a group has: an entry for each pair that occurs, sorted by group."""

    starts: Integers
    classes: Integers
    rows: Integers
    sizes: Integers
    number: int
    """The number of classes."""

    @classmethod
    def of(cls, group: Integers, class_: Integers) -> _Counts:
        number = int(class_.max()) + 1
        keys, rows = np.unique(group * number + class_, return_counts=True)
        sizes = np.bincount(group)
        starts = np.searchsorted(keys, np.arange(len(sizes) + 1) * number)
        return cls(starts, keys % number, rows, sizes, number)

    def owners(self) -> Integers:
        """The group of each entry."""
        return np.repeat(np.arange(len(self.sizes)), np.diff(self.starts))

    def kinds(self) -> Integers:
        """A number for each group (groups,), equal for groups with the same rows of every class."""
        mixed = (self.classes.astype(np.uint64) << np.uint64(32)) ^ self.rows.astype(np.uint64)
        for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
            mixed = (mixed ^ (mixed >> np.uint64(shift))) * np.uint64(factor)
        sums = np.add.reduceat(mixed ^ (mixed >> np.uint64(31)), self.starts[:-1])
        kinds: Integers = np.unique(sums, return_inverse=True)[1].reshape(-1)
        return kinds

    def of_group(self, group: int) -> list[tuple[int, int]]:
        """The class and the rows of each entry of a group."""
        entries = slice(self.starts[group], self.starts[group + 1])
        return list(zip(self.classes[entries].tolist(), self.rows[entries].tolist(), strict=True))


class _Placing:
    """The part of each group, and what each part still lacks."""

    def __init__(self, counts: _Counts, shares: list[float]) -> None:
        self._counts, self._shares = counts, shares
        self.part = np.full(len(counts.sizes), -1)
        totals = np.bincount(counts.classes, weights=counts.rows, minlength=counts.number).tolist()
        # All rows together count as one more class.
        self._totals = [*totals, float(counts.sizes.sum())]
        self._lacks = [[share * total for total in self._totals] for share in shares]

    def place_many(self, drawn: NDArray[np.uint64]) -> None:
        """Divides groups that are equal in the shares of the parts; a few of each kind are left."""
        kinds = self._counts.kinds()
        order = np.lexsort((drawn, kinds))
        members = np.bincount(kinds)
        rank = np.empty(len(order), np.int64)
        rank[order] = np.arange(len(order)) - np.repeat(np.cumsum(members) - members, members)
        end = np.zeros(len(members), np.int64)
        for number, share in enumerate(self._shares):
            begin, end = end, end + np.floor(members * share).astype(np.int64)
            self.part[(rank >= begin[kinds]) & (rank < end[kinds])] = number
        of_entry = self.part[self._counts.owners()]
        for number, lacks in enumerate(self._lacks):
            mine = of_entry == number
            rows = self._counts.rows[mine]
            found = np.bincount(self._counts.classes[mine], weights=rows, minlength=self._counts.number)
            for class_, had in enumerate([*found.tolist(), float(rows.sum())]):
                lacks[class_] -= had

    def place_others(self, drawn: NDArray[np.uint64]) -> None:
        """Places the rest one by one, large groups first."""
        left = np.flatnonzero(self.part < 0)
        size = np.floor(np.log2(self._counts.sizes[left])).astype(np.int64)
        for group in left[np.lexsort((drawn[left], -size))].tolist():
            rows = [*self._counts.of_group(group), (self._counts.number, int(self._counts.sizes[group]))]
            costs = [self._cost(rows, number) for number in range(len(self._shares))]
            best = costs.index(min(costs))
            self.part[group] = best
            for class_, count in rows:
                self._lacks[best][class_] -= count

    def _cost(self, rows: list[tuple[int, int]], number: int) -> float:
        """How much the squared deviations grow if a part gets the rows. The same bits on every machine."""
        lacks, totals = self._lacks[number], self._totals
        terms = ((count / totals[class_]) * ((count - 2 * lacks[class_]) / totals[class_]) for class_, count in rows)
        return math.fsum(terms) / self._shares[number]

    def complete(self, drawn: NDArray[np.uint64]) -> None:
        """Moves the smallest groups that bring a class to a part which has none of it, and a group to an empty part.

        The first part takes even the only group of a class; the others take what another part can spare.
        """
        counts, parts, owners = self._counts, len(self._shares), self._counts.owners()
        by_class = np.lexsort((drawn[owners], counts.sizes[owners], counts.classes))
        bounds = np.searchsorted(counts.classes[by_class], np.arange(counts.number + 1))
        present = np.zeros((parts, counts.number), np.int64)
        np.add.at(present, (self.part[owners], counts.classes), 1)

        def move(groups: Integers, number: int, *, spare: bool) -> bool:
            """Moves the first of the groups; with `spare`, the first one whose classes its part also has of others."""
            for group in groups.tolist():
                classes, before = [each for each, _ in counts.of_group(group)], self.part[group]
                if before != number and (not spare or present[before, classes].min() > 1):
                    present[before, classes] -= 1
                    present[number, classes] += 1
                    self.part[group] = number
                    return True
            return False

        for number in range(parts):
            for class_ in np.flatnonzero(present[number] == 0).tolist():
                if not present[number, class_]:  # unless a group that was moved for another class has brought it
                    move(owners[by_class[bounds[class_] : bounds[class_ + 1]]], number, spare=number > 0)
        smallest = np.lexsort((drawn, counts.sizes))
        for number in np.flatnonzero(np.bincount(self.part, minlength=parts) == 0).tolist():
            several = np.bincount(self.part, minlength=parts) > 1
            groups = smallest[several[self.part[smallest]]]
            if not move(groups, number, spare=True):
                move(groups, number, spare=False)
