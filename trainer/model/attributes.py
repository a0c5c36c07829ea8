"""Checks attributes that MXNet's operators use before they check them.

A length of zero ends the process with a division by zero, a count of billions fills the memory with names of inputs,
and an axis that does not exist writes past the end of a list: none of these reaches MXNet.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from trainer.reading import Unreadable

COUNTS = {
    "num_args": 0, "num_arrays": 1, "num_hops": 1, "num_layers": 1, "num_out_data": 0, "num_outputs": 1,
    "num_tensors": 1, "num_weights": 1, "sections": 1,
}  # fmt: skip
"""Attributes that say how many inputs or outputs there are, with the least that they may be."""
HIGHEST_COUNT = 65_536
DIVISORS = frozenset(
    {
        "block_size",
        "group_size",
        "heads",
        "im2col_step",
        "num_deformable_group",
        "num_group",
        "num_groups",
        "repeat",
        "stride",
        "stride1",
        "stride2",
    }
)
"""Attributes by which something is divided."""
AXES = frozenset({"a_axes"})
"""Attributes that list axes, each once."""
INDEXED = frozenset({"_ravel_multi_index", "_unravel_index", "ravel_multi_index", "unravel_index"})
"""The operators that compute indices of arrays of a given shape."""
UNCHECKED_FLAGS = frozenset({"use_length", "use_sequence_length"})
"""Attributes with which lengths are taken from an input, and not checked."""
SIZES = frozenset({"output_size", "reps", "size"})
"""Attributes that list lengths of an output, which MXNet multiplies without a check for negative ones."""
PARTS = frozenset({"_npi_dsplit", "_npi_hsplit", "_npi_split", "_npi_vsplit", "_split_v2"})
"""The operators that need places or a number of parts, and do not ask for either."""
RANGES = frozenset({"_arange", "_npi_arange", "_npx_arange"})
"""The operators that make a sequence of numbers, whose length MXNet computes in 32 bits."""
RESHAPES = frozenset({"Reshape", "reshape"})
"""The operators that do not check that their output has as many values as their input."""
CHOICES = frozenset({"where", "_sparse_where"})
"""The operators that do not check that the array to choose by fits those to choose from."""
HIGHEST_LENGTH = 2**31 - 1
SUMMED_AXES = frozenset({"_npi_tensordot", "_npi_tensordot_int_axes"})
"""The operators for `check_axes`."""


def check_attributes(operator: str, attributes: Mapping[str, str], where: str) -> None:
    """Raises Unreadable for a count or a divisor that MXNet would not survive."""
    _check_whole(operator, attributes, where)
    for name, value in attributes.items():
        _check_flags(operator, name, value, where)
        if name in COUNTS:
            # An operator with several, such as a split, may write it as a tuple.
            found = re.fullmatch(r"[(\[]?\s*(\d{1,5}),?\s*[)\]]?|None", value.strip())
            if not found or (found[1] and not COUNTS[name] <= int(found[1]) <= HIGHEST_COUNT):
                raise Unreadable(f"{where}: {name} of {operator} is {value[:50]!r}")
        elif name in DIVISORS and any(int(number) <= 0 for number in numbers_in(value)):
            raise Unreadable(f"{where}: {name} of {operator} is {value[:50]!r}, and something is divided by it")
        elif name == "shape" and operator in INDEXED and any(number < 1 for number in numbers_in(value)):
            raise Unreadable(f"{where}: {name} of {operator} is {value[:50]!r}")
        elif name in AXES and (
            len(set(axes := numbers_in(value))) != len(axes) or max(map(abs, axes), default=0) >= 32
        ):
            raise Unreadable(f"{where}: {name} of {operator} are {value[:50]!r}")


def _check_whole(operator: str, attributes: Mapping[str, str], where: str) -> None:
    """Raises Unreadable for attributes that belong together and do not."""
    if operator in RANGES and not _is_countable(attributes):
        raise Unreadable(f"{where}: {operator} makes more numbers than an array can hold")
    if operator in PARTS and not numbers_in(attributes.get("indices", "")) and "sections" not in attributes:
        raise Unreadable(f"{where}: {operator} has neither indices nor sections")
    if operator in RESHAPES and {"target_shape", "keep_highest"} & attributes.keys():
        raise Unreadable(f"{where}: target_shape and keep_highest of {operator} are not supported")


def _check_flags(operator: str, name: str, value: str, where: str) -> None:
    """Raises Unreadable for lengths that are negative, or that MXNet takes from an input without a check."""
    if name in UNCHECKED_FLAGS and value.strip().lower() in ("true", "1"):
        raise Unreadable(f"{where}: {name} of {operator} takes lengths from other values and does not check them")
    if name in SIZES and any(number < 0 for number in numbers_in(value)):
        raise Unreadable(f"{where}: {name} of {operator} is {value[:50]!r}")


def _is_countable(attributes: Mapping[str, str]) -> bool:
    """Whether the length of a sequence of numbers is one that MXNet computes without an overflow."""
    try:
        start, step = float(attributes.get("start", "0")), float(attributes.get("step", "1"))
        stop = None if attributes.get("stop", "None") == "None" else float(attributes["stop"])
        first, last = (0.0, start) if stop is None else (start, stop)
        return abs((last - first) / step) * float(attributes.get("repeat", "1")) <= HIGHEST_LENGTH
    except (ValueError, ZeroDivisionError):
        return False


def check_axes(attributes: Mapping[str, str], ranks: Sequence[int], where: str) -> None:
    """Raises Unreadable unless the axes of a product of arrays exist, each once."""
    listed = [numbers_in(attributes.get(name, "")) for name in ("a_axes_summed", "b_axes_summed")]
    if "axes" in attributes:
        count = numbers_in(attributes["axes"])
        listed = [list(range(min(sum(count), 100)))] * 2 if count and count[0] >= 0 else [[-100]]
    for axes, rank in zip(listed, ranks, strict=True):
        plain = [axis + rank if axis < 0 else axis for axis in axes]
        if len(set(plain)) != len(plain) or any(not 0 <= axis < rank for axis in plain):
            raise Unreadable(f"{where}: it sums over the axes {axes} of an array with {rank}")


def numbers_in(value: str) -> list[int]:
    """The whole numbers in an attribute such as `(1, 2)`."""
    return [int(number) for number in re.findall(r"-?\d{1,18}", value)]
