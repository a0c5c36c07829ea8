"""The options of a task that learns from tables; the task inherits them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar

from pydantic import BeforeValidator, Field

Fraction = Annotated[float, Field(ge=0, lt=1)]


def _delimiter(value: object) -> object:
    """A tab by its name, as a shell makes it hard to type."""
    value = "\t" if value in ("tab", "\\t") else value
    if isinstance(value, str) and not (len(value) == 1 and value.isascii() and value not in '"\n\r'):
        raise ValueError("it has to be one ASCII character, or the word tab")
    return value


Delimiter = Annotated[str, BeforeValidator(_delimiter)]


@dataclass
class TableOptions:
    """The files and columns, and how to split the rows. Fractions are of all rows of `data`; 0 means no split."""

    for_numbers: ClassVar[str] = ""
    """For a task that learns classes: what learns numbers instead, which a message about such a label names."""

    data: Annotated[Path | None, Field(description="A CSV or Parquet file with a header.")] = None
    label: Annotated[str | None, Field(description="The column to predict.")] = None
    positive_class: Annotated[
        str | None, Field(description="The label value that counts as 1; all others count as 0.")
    ] = None
    features: Annotated[tuple[str, ...], Field(description="Columns to learn from; all others are ignored.")] = ()
    ignore: Annotated[tuple[str, ...], Field(description="Columns to ignore.")] = ()
    categorical: Annotated[
        tuple[str, ...], Field(description="Columns to treat as categories, whatever they hold.")
    ] = ()
    numeric: Annotated[tuple[str, ...], Field(description="Columns of text to treat as numbers.")] = ()
    delimiter: Annotated[
        Delimiter | None, Field(description="What separates the values of a CSV file; found if not given.")
    ] = None
    validation_data: Annotated[Path | None, Field(description="A validation file, instead of a split.")] = None
    validation_split: Annotated[Fraction, Field(description="The fraction of the rows kept for validation.")] = 0.2
    test_data: Annotated[Path | None, Field(description="A test file, instead of a split.")] = None
    test_split: Annotated[Fraction, Field(description="The fraction of the rows kept for the test.")] = 0.2
    standardize: Annotated[bool, Field(description="Scale a table's numbers to mean 0, deviation 1.")] = True
    drop_unlabelled: Annotated[bool, Field(description="Leave out rows whose label is missing.")] = False
    sample_weight: Annotated[str | None, Field(description="A column with the weights of the rows.")] = None
