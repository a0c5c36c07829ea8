"""The options of a task that learns from tables; the task inherits them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Field

from trainer.data.split_names import JUDGED
from trainer.data.tables.embedding import ONE_HOT_LIMIT, CategoryOptions
from trainer.data.tables.frame import Frame
from trainer.data.tables.memory import as_table

Fraction = Annotated[float, Field(ge=0, lt=1)]


def _delimiter(value: object) -> object:
    """A tab by its name, as a shell makes it hard to type."""
    value = "\t" if value in ("tab", "\\t") else value
    if isinstance(value, str) and not (len(value) == 1 and value.isascii() and value not in '"\n\r'):
        raise ValueError("it has to be one ASCII character, or the word tab")
    return value


def _as_source(value: object) -> object:
    """One path as a tuple of one, as Python code gives it, none as an empty one; anything else is a table in memory."""
    if value is None:
        return ()
    if isinstance(value, (str, Path)):
        return (value,)
    if isinstance(value, (tuple, list)) and (not value or any(isinstance(each, (str, Path)) for each in value)):
        return value
    return value if isinstance(value, Frame) else Frame(as_table(value))


Table = Annotated[tuple[Path, ...] | Frame, BeforeValidator(_as_source)]
Delimiter = Annotated[str, BeforeValidator(_delimiter)]
TargetKind = Literal["classes", "number", "non-negative number", "any"]
"""What a label column is taken for; `any`: many different numbers are a number to predict, all else is classes."""


@dataclass
class TableOptions:
    """The files and columns, and how to split the rows. Fractions are of all rows of `data`; 0 means no split.

    In Python, a table in memory can take the place of files: a data frame, an Arrow table, a dict of columns.
    """

    for_numbers: ClassVar[str] = ""
    """For a task that learns classes: what learns numbers instead, which a message about such a label names."""
    for_classes: ClassVar[str] = ""
    """For a task that learns a number: what learns classes instead."""

    data: Annotated[Table, Field(description="The table: files, folders or patterns.")] = ()
    label: Annotated[str | None, Field(description="The column to predict.")] = None
    features: Annotated[tuple[str, ...], Field(description="Columns to learn from; all others are ignored.")] = ()
    ignore: Annotated[tuple[str, ...], Field(description="Columns to ignore.")] = ()
    categorical: Annotated[
        tuple[str, ...], Field(description="Columns to treat as categories, whatever they hold.")
    ] = ()
    numeric: Annotated[tuple[str, ...], Field(description="Columns of text to treat as numbers.")] = ()
    one_hot_limit: Annotated[
        int, Field(ge=0, description="The most different values of a column whose categories are an input each.")
    ] = ONE_HOT_LIMIT
    embedding: Annotated[
        tuple[str, ...],
        Field(description="Weights per category of columns beyond that: auto, N or COLUMN:N.", examples=[("16",)]),
    ] = ()
    min_count: Annotated[
        int, Field(ge=1, description="Training rows below which such categories share their weights.")
    ] = 1
    hash_bits: Annotated[
        int | None,
        Field(ge=1, le=30, description="Hash all categories into 2^N rows of weights, without a list of them."),
    ] = None
    delimiter: Annotated[
        Delimiter | None, Field(description="What separates the values of a CSV file; found if not given.")
    ] = None
    validation_data: Annotated[Table, Field(description="Validation files, instead of a split.")] = ()
    validation_split: Annotated[Fraction, Field(description="The fraction of the rows kept for validation.")] = 0.2
    test_data: Annotated[Table, Field(description="Test files, instead of a split.")] = ()
    test_split: Annotated[Fraction, Field(description="The fraction of the rows kept for the test.")] = 0.2
    calibration_data: Annotated[Table, Field(description="Calibration files, instead of a split.")] = ()
    calibration_split: Annotated[
        Fraction,
        Field(
            description="The fraction of the rows that nothing else uses, neither training nor its choices: for "
            "calibration and for thresholds or intervals with a guarantee."
        ),
    ] = 0.0
    group: Annotated[
        str | None, Field(description="A column whose groups stay together: all rows of one are in the same split.")
    ] = None
    time: Annotated[
        str | None,
        Field(description="A column by which the newest rows are kept for validation, calibration and test."),
    ] = None
    time_gap: Annotated[
        str | None, Field(description="How much older the rows before a split by time are, such as P7D or '7 days'.")
    ] = None
    split: Annotated[
        str | None,
        Field(description="A column that says train, validation, calibration or test; the fractions are not used."),
    ] = None
    slice: Annotated[
        tuple[str, ...],
        Field(
            description="Columns whose values tell apart groups of evaluated rows, for metrics of each; the net learns "
            "from them only if it would do so anyway."
        ),
    ] = ()
    standardize: Annotated[bool, Field(description="Scale a table's numbers to mean 0, deviation 1.")] = True
    drop_unlabelled: Annotated[bool, Field(description="Leave out rows whose label is missing.")] = False
    sample_weight: Annotated[str | None, Field(description="A column with the weights of the rows.")] = None
    cache: Annotated[
        Literal["auto", "on", "off", "verify", "rebuild"],
        Field(
            description="Whether the encoded rows are kept on the disk, and mapped from there for later runs too. "
            "auto: if they would take more than --memory, or are there already; verify: on, after comparing content; "
            "rebuild: on, made anew."
        ),
    ] = "auto"
    cache_dir: Annotated[
        Path | None, Field(description="The folder of the cache; default: $TRAINER_CACHE_DIR, or in the user's own.")
    ] = None
    feature_type: Annotated[
        Literal["float32", "float16"],
        Field(description="How precisely encoded numbers are kept: float16 takes half the room, and rounds them."),
    ] = "float32"

    def __post_init__(self) -> None:
        for field in ("data", *(f"{split}_data" for split in JUDGED)):
            given: Any = _as_source(getattr(self, field))
            setattr(self, field, given if isinstance(given, Frame) else tuple(map(Path, given)))

    def own_tables(self) -> dict[str, tuple[Path, ...] | Frame]:
        """The table of its own that each split but the training rows has; empty for none."""
        return {split: getattr(self, f"{split}_data") for split in JUDGED}

    def target_kind(self) -> TargetKind:
        """What the label column is taken for."""
        return "classes"

    def is_linear(self) -> bool:
        """Whether the net has no hidden layers: a category beyond the limit then has a weight for each output."""
        return False

    def check_categories(self) -> None:
        """Raises UsageError for options on columns of categories that contradict each other."""
        category_options(self)


def category_options(options: TableOptions) -> CategoryOptions:
    """What becomes of columns of categories. Raises UsageError for options that contradict each other."""
    found = CategoryOptions(
        options.one_hot_limit,
        options.min_count,
        options.hash_bits,
        options.embedding,
        is_linear=options.is_linear(),
    )
    found.check()
    return found


@dataclass
class ClassOptions(TableOptions):
    """The options of a table whose label column may be classes."""

    positive_class: Annotated[
        str | None, Field(description="The label value that counts as 1; all others count as 0.")
    ] = None


@dataclass
class AnyTable(ClassOptions):
    """The options of a table whose label column may be classes or a number."""

    def target_kind(self) -> TargetKind:
        """Many different numbers are a number to predict; all else is classes."""
        return "any"
