"""The tags of an event file. TensorBoard gives each tag to one of its plugins: the kind of a tag's first value."""

from __future__ import annotations

from typing import Literal

Kind = Literal["scalar", "histogram", "image", "pr-curve", "text"]
KINDS: tuple[Kind, ...] = ("scalar", "histogram", "image", "pr-curve", "text")

HPARAMS = "_hparams_/"
"""What the tags of the HPARAMS tab begin with."""

_PAIRS = {
    **{f"{split}/loss": f"loss/{split}" for split in ("train", "validation", "calibration", "test")},
    "train/batch-loss": "loss/train-batch",
    "epoch": "run/epoch",
    "learning-rate": "run/learning-rate",
}
_PLACES = _PAIRS | {tag: name for name, tag in _PAIRS.items()}
"""TensorBoard sorts its cards by tag, and the losses are to come first. Each pair is swapped, so no two names meet."""


def tag_of(kind: Kind, name: str) -> str:
    """The tag of a value: different for every pair of kind and name, whatever the names are.

    A scalar has its own name, except that the losses come first. Tags of other kinds end in their kind; a scalar whose
    name could be confused with one of them, or with those of the HPARAMS tab, ends in `scalar`.
    """
    if kind != "scalar":
        return f"{name}/{kind}"
    place = _PLACES.get(name, name)
    confusing = place.rpartition("/")[2] in KINDS or place.startswith(HPARAMS)
    return f"{place}/scalar" if confusing else place
