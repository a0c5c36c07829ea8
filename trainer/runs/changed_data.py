"""Whether the data of a resumed run are those that it was started with."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

from trainer.data.fingerprint import Fingerprint
from trainer.errors import UsageError

if TYPE_CHECKING:
    from trainer.run import Run

log = logging.getLogger("trainer")

ChangedData = Literal["refuse", "ok"]
"""What to do about data that are not those that a run was started with."""
NAMED = 4


def check_data(run: Run, saved: Mapping[str, Any] | None, *, changed_data: ChangedData) -> None:
    """Raises UsageError, naming what changed, if the data are not those of a saved fingerprint; with `ok` it warns.

    Says nothing if one of the two is unknown.
    """
    before = Fingerprint.from_json(saved)
    changes = before.changes(run.fingerprint) if before is not None and run.fingerprint is not None else []
    if not changes:
        return
    more = [f"and {len(changes) - NAMED} more changes"] if len(changes) > NAMED else []
    what = f"the data have changed: {'; '.join([*changes[:NAMED], *more])}"
    if changed_data == "refuse":
        raise UsageError(
            what,
            where="the run's data",
            fix="Give the run the data that it was started with, or accept the new ones with --changed-data ok "
            '(in Python: changed_data="ok").',
        )
    if run.processes.is_first:
        log.warning("%s; the run continues with the new ones", what)


def check_rows(run: Run, split_version: int | None, state: Mapping[str, Any], *, changed_data: ChangedData) -> None:
    """Raises UsageError if a checkpoint's state is of other data, or of rows that were divided in another way."""
    if state["split_version"] != split_version:
        raise UsageError(
            "this version of the program divides the rows into training and other rows in another way: the "
            " run would train on rows that it was evaluated on",
            where="the checkpoint",
            fix="Start a new run, or resume with the version of gluon-trainer that began this one.",
        )
    check_data(run, state.get("data"), changed_data=changed_data)
    if state["rows"] != run.train.rows and changed_data == "refuse":
        raise UsageError(
            f"there are {run.train.rows} training rows, but the checkpoint was written with {state['rows']}",
            where="the checkpoint",
            fix="Give the run the data that it was started with.",
        )


def check_room(saved: Mapping[str, Any], batches: int | None) -> None:
    """Raises UsageError for a position within an epoch that an epoch of the new data does not have."""
    within = saved["step_in_epoch"]
    if saved["within_epoch"] and batches is not None and within > batches:
        raise UsageError(
            f"it is at step {within} of an epoch, and with the new data an epoch has {batches}",
            where="the checkpoint",
            fix="Resume from the end of an epoch with --from.",
        )
