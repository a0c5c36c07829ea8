"""Options: a dataclass's fields, from the text of flags and from TOML values, and back to TOML."""

import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import pytest
import tomli_w
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field

from trainer import UsageError
from trainer.config.options import build, options_of, to_toml
from trainer.config.text import as_text

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

Fraction = Annotated[float, Field(ge=0, lt=1)]


@dataclass
class Every:
    """A field of every kind."""

    count: Annotated[int, Field(gt=0, description="How many.")] = 3
    rate: float = 0.5
    fraction: Annotated[Fraction, Field(description="Which part.")] = 0.25
    on: bool = False
    text: str = "x"
    kind: Literal["relu", "tanh"] = "relu"
    level: Literal[1, 2] = 1
    rate_or_auto: float | Literal["auto"] = "auto"
    file: Path | None = None
    files: tuple[Path, ...] = ()
    maybe_text: str | None = None
    maybe_count: Annotated[int | None, Field(ge=1, le=9)] = None
    numbers: tuple[int, ...] = (1, 2)
    words: tuple[str, ...] = ()
    pair: tuple[float, float] = (0.9, 0.999)
    sizes: list[Annotated[int, Field(gt=0)]] = field(default_factory=list)
    name: Annotated[str, Field(min_length=1, max_length=5)] = "abc"


NAMED = {option.name: option for option in options_of(Every)}


def parse(name, value, **more):
    return NAMED[name].parse(value, where="--", **more)


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("count", "7", 7),
        ("rate", "1e-3", 0.001),
        ("rate", "2", 2.0),
        ("rate", "inf", float("inf")),
        ("on", "true", True),
        ("on", "False", False),
        ("on", "yes", True),
        ("on", "0", False),
        ("text", "none", "none"),
        ("text", "", ""),
        ("kind", "tanh", "tanh"),
        ("level", "2", 2),
        ("rate-or-auto", "auto", "auto"),
        ("rate-or-auto", "0.1", 0.1),
        ("maybe-text", "", None),
        ("maybe-text", "none", "none"),
        ("maybe-count", "", None),
        ("maybe-count", "none", None),
        ("maybe-count", "4", 4),
        ("file", "none", None),
        ("numbers", "64,32", (64, 32)),
        ("numbers", " 64 , 32, ", (64, 32)),
        ("numbers", "5", (5,)),
        ("numbers", "", ()),
        ("words", "a b, c", ("a b", "c")),
        ("pair", "0.5,0.75", (0.5, 0.75)),
        ("sizes", "1,2", [1, 2]),
    ],
)
def test_the_text_of_a_flag_becomes_a_value(name, text, value):
    parsed = parse(name, text)
    assert parsed == value
    assert type(parsed) is type(value)


@pytest.mark.parametrize(
    ("name", "given_value", "value"),
    [
        ("count", 7, 7),
        ("rate", 2, 2.0),
        ("on", True, True),
        ("numbers", [64, 32], (64, 32)),
        ("words", ["a,b", " c"], ("a,b", " c")),
        ("pair", [1, 2], (1.0, 2.0)),
        ("maybe-text", "none", "none"),
        ("level", 2, 2),
    ],
)
def test_a_toml_value_is_taken_as_it_is(name, given_value, value):
    assert parse(name, given_value) == value


@pytest.mark.parametrize(
    ("name", "value", "complaint"),
    [
        ("count", "x", "--count: 'x' does not fit: it should be a valid integer"),
        ("count", "1.5", "--count: '1.5' does not fit: it should be a valid integer"),
        ("count", "0", "--count: '0' does not fit: it should be greater than 0"),
        ("count", "", "--count: '' does not fit"),
        ("count", [1], r"--count: \[1\] does not fit"),
        ("rate", "fast", "--rate: 'fast' does not fit: it should be a valid number"),
        ("fraction", "1", "--fraction: '1' does not fit: it should be less than 1"),
        ("fraction", "nan", "--fraction: 'nan' does not fit"),
        ("on", "maybe", "--on: 'maybe' does not fit: it should be a valid boolean"),
        ("text", 3, "--text: 3 does not fit: it should be a valid string"),
        ("kind", "sine", "--kind: 'sine' does not fit: it should be 'relu' or 'tanh'"),
        ("level", "3", "--level: '3' does not fit: it should be 1 or 2"),
        ("maybe-count", "10", "--maybe-count: '10' does not fit: it should be less than or equal to 9"),
        ("numbers", "1,x", "--numbers: 'x' does not fit: it should be a valid integer"),
        ("numbers", 3, "--numbers: 3 does not fit"),
        ("pair", "1", r"--pair: \('1',\) has too few values"),
        ("pair", "1,2,3", "--pair: .* does not fit"),
        ("sizes", "1,0", "--sizes: '0' does not fit: it should be greater than 0"),
        ("name", "", "--name: '' does not fit: .* at least 1 character"),
    ],
)
def test_what_does_not_fit_is_named_with_its_value_and_the_reason(name, value, complaint):
    with pytest.raises(UsageError, match=complaint):
        parse(name, value)


def test_a_relative_path_becomes_absolute_from_the_current_folder_or_from_the_file_it_stands_in(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert parse("file", "a.csv") == tmp_path / "a.csv"
    assert parse("file", "a.csv", base=Path("/elsewhere")) == Path("/elsewhere/a.csv")
    assert parse("file", "/abs/a.csv", base=Path("/elsewhere")) == Path("/abs/a.csv")
    assert parse("file", "~/a.csv", base=Path("/elsewhere")) == Path.home() / "a.csv"
    assert parse("files", "a,/b") == (tmp_path / "a", Path("/b"))
    assert parse("files", ["a"], base=Path("/elsewhere")) == (Path("/elsewhere/a"),)


def test_types_ranges_and_defaults_are_told_in_words():
    told = {option.name: (option.type_name, option.constraints, option.default_text) for option in options_of(Every)}
    assert told == {
        "count": ("integer", "> 0", "3"),
        "rate": ("number", "", "0.5"),
        "fraction": ("number", "≥ 0, < 1", "0.25"),
        "on": ("true|false", "", "false"),
        "text": ("text", "", "x"),
        "kind": ("relu|tanh", "", "relu"),
        "level": ("1|2", "", "1"),
        "rate-or-auto": ("number|auto", "", "auto"),
        "file": ("path", "", ""),
        "files": ("path,…", "", ""),
        "maybe-text": ("text", "", ""),
        "maybe-count": ("integer", "≥ 1, ≤ 9", ""),
        "numbers": ("integer,…", "", "1,2"),
        "words": ("text,…", "", ""),
        "pair": ("number,…", "", "0.9,0.999"),
        "sizes": ("integer,…", "> 0", ""),
        "name": ("text", "length ≥ 1, length ≤ 5", "abc"),
    }


def test_the_help_text_is_the_fields_description():
    assert (NAMED["count"].help, NAMED["fraction"].help, NAMED["rate"].help) == ("How many.", "Which part.", "")


def test_switches_and_lists_are_known_as_such():
    assert [name for name, option in NAMED.items() if option.is_switch] == ["on"]
    assert [name for name, option in NAMED.items() if option.is_list] == ["files", "numbers", "words", "pair", "sizes"]


def test_an_unknown_option_is_refused_with_the_likely_one_or_all():
    with pytest.raises(UsageError, match=r"^plugin 'p': there is no option 'cuont'\. Did you mean 'count'\?$"):
        build(Every, {"cuont": 1}, where="plugin 'p'")
    with pytest.raises(UsageError, match=r"there is no option 'zzz'\. It has: count, rate, fraction,"):
        build(Every, {"zzz": 1}, where="plugin 'p'")


def test_a_required_option_has_to_be_given():
    @dataclass
    class Needs:
        path: Path
        more: int = 1

    assert [option.required for option in options_of(Needs)] == [True, False]
    assert build(Needs, {"path": "/x"}, where="").path == Path("/x")
    with pytest.raises(UsageError, match=r"^plugin 'p': the option 'path' has to be given$"):
        build(Needs, {"more": 2}, where="plugin 'p'")


def test_a_value_error_of_the_class_itself_is_told_as_the_users():
    @dataclass
    class Ordered:
        low: int = 0
        high: int = 1

        def __post_init__(self):
            if self.low > self.high:
                raise ValueError("low is above high")

    with pytest.raises(UsageError, match=r"^plugin 'p': low is above high$"):
        build(Ordered, {"low": 2}, where="plugin 'p'")


def test_fields_that_are_not_in_the_constructor_are_no_options():
    @dataclass
    class Counting:
        count: int = field(default=0, init=False)

    assert options_of(Counting) == []
    assert options_of(int) == []


def test_an_annotation_that_cannot_be_read_is_named():
    @dataclass
    class Odd:
        x: "Nowhere" = 1  # noqa: F821

    with pytest.raises(UsageError, match=r"Odd: the type of an option cannot be read: name 'Nowhere' is not defined"):
        options_of(Odd)


TEXT = st.text(st.characters(exclude_categories=["Cs"]))
ROUND = st.builds(
    Every,
    count=st.integers(1, 2**53),
    rate=st.floats(allow_nan=False),
    fraction=st.floats(0, 1, exclude_max=True),
    on=st.booleans(),
    text=TEXT,
    kind=st.sampled_from(["relu", "tanh"]),
    level=st.sampled_from([1, 2]),
    rate_or_auto=st.floats(allow_nan=False) | st.just("auto"),
    file=st.none() | st.just(Path("/data/a b.csv")),
    files=st.tuples() | st.tuples(st.just(Path("/x"))),
    # Empty text is how a flag says "none", so it is none in a file as well.
    maybe_text=st.none() | TEXT.filter(bool),
    maybe_count=st.none() | st.integers(1, 9),
    numbers=st.lists(st.integers(-(2**63), 2**63 - 1)).map(tuple),
    words=st.lists(TEXT).map(tuple),
    pair=st.tuples(st.floats(allow_nan=False), st.floats(allow_nan=False)),
    sizes=st.lists(st.integers(1, 9)),
    name=st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=5),
)


@given(ROUND)
def test_what_is_saved_as_toml_comes_back_equal(instance):
    text = tomli_w.dumps(to_toml(instance))
    assert build(Every, tomllib.loads(text), where="") == instance


@given(ROUND)
def test_what_is_written_as_a_flag_comes_back_equal(instance):
    """All but lists of text, whose commas separate, and paths with commas."""
    for option in options_of(Every):
        value = getattr(instance, option.field)
        if option.name not in ("words", "files"):
            assert option.parse(as_text(value), where="") == value


@dataclass
class ForPython:
    """Holds what no file can hold."""

    rows: Any
    make: Callable[[], Any] = list
    arrays: tuple[np.ndarray, ...] = ()
    number: int = 1
    table: dict[str, float] = field(default_factory=dict)


def test_a_field_that_neither_a_flag_nor_a_file_can_hold_is_not_an_option():
    assert [option.name for option in options_of(ForPython)] == ["number", "table"]
    assert to_toml(ForPython(np.ones(3), number=2)) == {"number": 2, "table": {}}


def test_one_that_has_to_be_given_is_said_to_be_for_python():
    with pytest.raises(UsageError, match="here: 'rows' can only be given in Python"):
        build(ForPython, {"number": 3}, where="here")
