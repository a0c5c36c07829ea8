"""Errors of other processes of a job, and which process reports an error to the user."""

from __future__ import annotations

from trainer.errors import TrainerError, UsageError


def is_told_by_another(error: BaseException | None) -> bool:
    """Whether another process of the job reports this error to the user."""
    return bool(getattr(error, "told_by_another", False))


def process_of(error: BaseException | None) -> str:
    """The process that had the error, as `rank 1 on machine`; empty if all processes had the same one."""
    return str(getattr(error, "process", ""))


class OtherProcessFailed(TrainerError):  # noqa: N818  the error is not this process's
    """Another process of the job failed; the message names it and says why. That process reports it to the user."""


class OtherProcessMisused(OtherProcessFailed, UsageError):  # noqa: N818
    """Another process failed by an error that the user can fix."""
