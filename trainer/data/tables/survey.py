"""Finds out what a column is while its training rows pass by in pieces; which may overturn what was guessed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from trainer.data.tables.blocks import Span
from trainer.data.tables.canonical import canonical, form_of_many
from trainer.data.tables.categories import FEW_VALUES, learn_categories
from trainer.data.tables.first_error import Check
from trainer.data.tables.kinds import IN_TIME, SURVEYS_IN_TIME, Column, Date, Duration, TimeOfDay
from trainer.data.tables.kinds.base import all_missing
from trainer.data.tables.kinds.date import DateSurvey
from trainer.data.tables.kinds.duration import DurationSurvey
from trainer.data.tables.kinds.flag import FlagSurvey
from trainer.data.tables.kinds.number import NumberSurvey
from trainer.data.tables.kinds.time import TimeSurvey
from trainer.data.tables.notations import REFUSED, are_plain_numbers, refuse_notation, refused_notation
from trainer.data.tables.parts import Part
from trainer.data.tables.texts import Are, Texts
from trainer.data.tables.times import are_zoned
from trainer.data.tables.values import (
    FIRST_ROWS,
    check_flat,
    cleaned,
    is_number,
    numbers_of,
    of_text,
    precision_of,
    truth_key,
)
from trainer.data.tables.vocabulary import form_of
from trainer.data.tables.wanted import Wanted
from trainer.errors import UsageError
from trainer.reading import in_gb

if TYPE_CHECKING:
    import pyarrow as pa

Survey: TypeAlias = "NumberSurvey | FlagSurvey | DateSurvey | TimeSurvey | DurationSurvey | Texts"
InTime: TypeAlias = "Date | TimeOfDay | Duration"
Mode = Literal["number", "flag", "in time", "texts"]
ASKED: tuple[tuple[Are, ...], ...] = (
    *((kind.are_read,) for kind in IN_TIME),
    (are_plain_numbers,),
    *((each.are, each.plainly) for each in REFUSED),
    (are_zoned,),
)
"""What a column of text is asked for when all of it was seen."""
FORGOTTEN_BYTES = 32 << 20
"""Texts of a hashed column that take more memory are forgotten as soon as their form is known."""


class WrongValue(Exception):  # noqa: N818  it asks for a look at the rows
    """Some value of a column is wrong; `check` raises UsageError for it."""

    def __init__(self, check: Check) -> None:
        super().__init__()
        self.check = check


@dataclass(frozen=True)
class Found:
    """What a piece of a column holds: a survey of it, None if all its values are missing, or that it is broken."""

    mode: Mode | None
    survey: Survey | None
    rows: int
    is_broken: bool = False


class ColumnSurvey:
    """What a column is, by its values in the training rows.

    A column of text begins as what its first values are: numbers, dates, times, durations or other text. If a later
    piece is not that, `again` says that the column has to be surveyed once more from its beginning, now as text.
    `limit` is the memory that the list of its distinct texts may take.
    """

    def __init__(
        self, name: str, kind: pa.DataType, wanted: Wanted, *, untyped: bool, where: str, limit: int | None = None
    ) -> None:
        self.name, self.kind, self.where = name, kind, where
        self.again = False
        self._wanted, self._untyped, self._limit = wanted, untyped, limit
        self._mode = self._by_type()
        self._survey: Survey | None = None
        self._missing = 0
        self._failed: UsageError | None = None
        self._broken = False

    @property
    def _is_text(self) -> bool:
        import pyarrow as pa

        return bool(pa.types.is_string(self.kind))

    def _by_type(self) -> Mode | None:
        """What the column is by the user's word or by its type; None if its values decide."""
        import pyarrow as pa

        if self.name in self._wanted.categorical:
            return "texts"
        if is_number(self.kind) or self.name in self._wanted.numeric:
            return "number"
        if pa.types.is_boolean(self.kind):
            return "flag"
        if self._is_text:
            return None
        return "in time" if any(each.stores(self.kind) for each in IN_TIME) else "texts"

    def _check_type(self) -> None:
        """Raises UsageError for a type that cannot be learned from."""
        import pyarrow as pa

        none = pa.chunked_array([], self.kind)
        numeric = self.name in self._wanted.numeric and self.name not in self._wanted.categorical
        if numeric and not (is_number(self.kind) or self._is_text or pa.types.is_null(self.kind)):
            raise UsageError(
                f"column {self.name!r} holds {self.kind}, which is not taken as numbers",
                where=self.where,
                fix=f"Leave {self.name} out of --numeric.",
            )
        if self._mode == "texts":
            check_flat(self.name, none, where=self.where, fix=f"Add --ignore {self.name}.")

    # ---- piece by piece ----------------------------------------------------------------------------------------------

    def look(self, part: Part) -> Found:
        """What a part holds. May be called from several threads."""
        if self._mode is not None or not self._is_text:
            mode: Mode = self._mode or "texts"
            try:
                return Found(mode, self._surveyed(mode, part), len(part))
            except UsageError:
                return Found(mode, None, len(part), is_broken=True)
        for guess in self._guesses(part.values(self.name)):
            try:
                survey = self._surveyed(guess, part)
            except UsageError:
                continue
            if isinstance(survey, NumberSurvey):
                blank = not survey.moments.count
            else:
                blank = isinstance(survey, Texts) and not survey.present
            return Found(None if blank else guess, survey, len(part))
        raise AssertionError("every text is a text")

    def _guesses(self, values: pa.ChunkedArray) -> Iterator[Mode]:
        """What text may be, by its first values."""
        first = values.slice(0, FIRST_ROWS)
        if self._untyped and of_text(first, truth=False) is not None:
            yield "number"
        if self._kind_in_time(values) is not None:
            yield "in time"
        yield "texts"

    def _kind_in_time(self, values: pa.ChunkedArray) -> type[InTime] | None:
        present = cleaned(values.slice(0, FIRST_ROWS)).drop_null()
        if not len(present):
            present = cleaned(values).drop_null().slice(0, FIRST_ROWS)
        return next((kind for kind in IN_TIME if len(present) and kind.are_read(present).all()), None)

    def _surveyed(self, mode: Mode, part: Part) -> Survey:
        """A survey of a part. Raises UsageError if a value does not fit."""
        if mode == "number" and self._by_type() is None:
            numbers = part.numbers(self.name)
            if numbers is None:
                raise UsageError("it is not a number", where=self.where)
            survey = NumberSurvey(self.name, standardize=self._wanted.standardize, where=self.where)
            survey.add_numbers(numbers, part.spans)
            return survey
        return self._of_values(mode, part.values(self.name), part.spans)

    def _of_values(self, mode: Mode, values: pa.ChunkedArray, spans: Sequence[Span]) -> Survey:
        standardize, where = self._wanted.standardize, self.where
        if mode == "texts":
            texts = Texts(ASKED)
            if not self._unlistable:
                texts.add(canonical(values))
            return texts
        survey: NumberSurvey | FlagSurvey | DateSurvey | TimeSurvey | DurationSurvey
        if mode == "number":
            survey = NumberSurvey(self.name, standardize=standardize, where=where)
        elif mode == "flag":
            survey = FlagSurvey(self.name, where=where)
        elif isinstance(self._survey, (DateSurvey, TimeSurvey, DurationSurvey)):
            survey = self._survey.empty()
        else:
            kind = next((each for each in IN_TIME if each.stores(values.type)), None) or self._kind_in_time(values)
            assert kind is not None  # noqa: S101  it is what was guessed
            survey = SURVEYS_IN_TIME[kind].of(self.name, values, standardize=standardize, where=where)
        survey.add(values, spans)
        return survey

    @property
    def _unlistable(self) -> bool:
        """Whether the values are of a type that has no texts: lists, structs, bytes."""
        try:
            self._check_type()
        except UsageError:
            return True
        return False

    def take(self, found: Found) -> None:
        """Adds what a piece holds; in any order of the pieces."""
        if self.again or self._broken or self._failed is not None:
            return
        if found.is_broken or (found.mode is not None and self._mode not in (None, found.mode)):
            # What was taken for granted does not hold; of a type or by the user's word it is an error.
            self._broken = True
            self.again = self._is_text and self._by_type() is None
            return
        if found.mode is None:
            self._missing += found.rows
            return
        self._mode = found.mode
        assert found.survey is not None  # noqa: S101  it has a mode
        if self._survey is None:
            self._survey = found.survey
        else:
            survey: Any = self._survey
            survey.merge(found.survey)  # of the same class, since the mode is the same
        if isinstance(self._survey, Texts):
            self._limited(self._survey)

    def _limited(self, texts: Texts) -> None:
        """Forgets texts that need not be known, and refuses more than the memory holds."""
        if texts.size > FORGOTTEN_BYTES and self._wanted.categories.hash_bits is not None and not self._precision:
            found, _ = texts.counted
            first = [text for text in found.slice(0, FIRST_ROWS).to_pylist() if text is not None]
            if form_of_many(found.drop_null()) == "written" and not all(map(truth_key, first)):
                texts.forget()
        if self._limit is not None and texts.size > self._limit:
            count, _ = texts.count()
            self._survey = None
            self._failed = UsageError(
                f"column {self.name!r} has more than {count:,} different values, whose list does not fit into "
                f"{in_gb(self._limit)}",
                where=self.where,
                fix=f"Hash the categories with --hash-bits, raise --memory, or add --ignore {self.name}.",
            )

    def restart(self) -> None:
        """Begins once more, with a column of text that is neither numbers nor times all through."""
        self._mode, self._survey, self._missing = "texts", None, 0
        self.again = self._broken = False

    # ---- what it is --------------------------------------------------------------------------------------------------

    @property
    def _precision(self) -> Literal["half", "single"] | None:
        return precision_of(self.kind)

    def learned(self, notes: list[str]) -> Column:
        """What the column is; `notes` are added to.

        Raises UsageError for a column that is refused, and WrongValue if that is because of some of its values.
        """
        self._check_type()
        if self._failed is not None:
            raise self._failed
        if self._broken:
            raise WrongValue(self._check(self._survey))
        if isinstance(self._survey, Texts):
            return self._of_texts(self._survey, notes)
        if self._survey is None:
            raise all_missing(self.name, self.where)
        return self._survey.learned()

    def _check(self, survey: Survey | None) -> Check:
        """Raises what the survey of some values raises."""
        mode = self._mode
        assert mode is not None  # noqa: S101  something was expected of the values

        def check(values: pa.ChunkedArray) -> None:
            if isinstance(survey, (DateSurvey, TimeSurvey, DurationSurvey)):
                survey.empty().add(values, [Span(0, 0, len(values))])
            else:
                self._of_values(mode, values, [Span(0, 0, len(values))])

        return check

    def _of_texts(self, texts: Texts, notes: list[str]) -> Column:
        import pyarrow as pa

        texts.rows += self._missing
        texts.missing += self._missing
        self._missing = 0
        name, where = self.name, self.where
        by_values = self._is_text and self._by_type() is None
        if by_values:
            if not texts.present:
                raise all_missing(name, where)
            if self._untyped and _are_flags(texts):
                return _flag(name, texts, where)
            for kind in IN_TIME:
                if texts.are_mostly(kind.are_read):
                    # They would be a column of it if not some of them could not be read.
                    example = "2020-01-01T00:00Z" if 2 * texts.taken(are_zoned) >= texts.present else "2020-01-01"
                    survey = SURVEYS_IN_TIME[kind].of(
                        name, pa.chunked_array([[example]]), standardize=False, where=where
                    )
                    self._mode = "in time"
                    raise WrongValue(self._check(survey))
            if texts.are_mostly(are_plain_numbers):
                if self._untyped:
                    raise WrongValue(lambda values: _check_numbers(name, values, where=where))
                notes.append(
                    f"column {name} is text, so it is a category although it holds numbers; "
                    f"--numeric {name} takes it as numbers"
                )
            refused = refused_notation(texts)
            if refused is not None:
                raise WrongValue(lambda values: refuse_notation(name, refused, cleaned(values), where=where))
        chosen = name in self._wanted.categorical
        return learn_categories(
            name, texts, self._precision, self._wanted.categories, where=where, notes=notes, chosen=chosen
        )


def _check_numbers(name: str, values: pa.ChunkedArray, *, where: str) -> None:
    numbers_of(name, values, where=where)


def _are_flags(texts: Texts) -> bool:
    """Whether all are true or false, some of them perhaps written as 1 and 0."""
    values, _ = texts.counted
    found = [text for text in values.to_pylist() if text is not None] if len(values) <= FEW_VALUES else []
    return bool(found) and form_of(found) == "truth"


def _flag(name: str, texts: Texts, where: str) -> Column:
    values, counts = texts.counted
    survey = FlagSurvey(name, where=where)
    true = sum(int(count) for text, count in zip(values.to_pylist(), counts, strict=True)
               if text is not None and truth_key(text) == "true")  # fmt: skip
    survey.count(texts.present, true)
    return survey.learned()
