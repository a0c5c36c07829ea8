"""The options of the order of training rows, as they were given together."""

from __future__ import annotations

from dataclasses import replace

from trainer.config.settings import ORDER, Settings
from trainer.errors import UsageError
from trainer.launch.layers import Merged

SIZES = ORDER[1:]


def without_sizes(given: Merged) -> Merged:
    """What was given, without sizes of blocks in a file if another order was given over that file's."""
    order = given.settings.get("order")
    if order is None or order.origin.source in ("default", "file") or order.value == "windows":
        return given
    kept = {name: each for name, each in given.settings.items() if name not in SIZES or each.origin.source != "file"}
    return replace(given, settings=kept)


def check_order(given: Merged, settings: Settings) -> None:
    """Raises UsageError for sizes of blocks that were given beside one permutation of all rows."""
    if settings.order != "rows":
        return
    for name in SIZES:
        if name in given.settings and given.settings[name].value is not None:
            raise UsageError(
                "one permutation of all rows has no blocks",
                where=given.settings[name].where,
                fix="Leave it out, or choose --order windows.",
            )
