"""The files of a table: a file, a folder, a pattern, or several of them, in one order."""

from __future__ import annotations

import glob
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias
from urllib.parse import unquote

from trainer.data.tables.formats import FORMATS, Format, check_file, check_name, format_of
from trainer.data.tables.frame import Frame
from trainer.errors import UsageError, did_you_mean, listed

Given: TypeAlias = "str | Path | Sequence[str | Path]"
"""What names a table: a path or a pattern, or several of them."""
MISSING_PARTITION = "__HIVE_DEFAULT_PARTITION__"
"""The value in a folder's name that stands for a missing one."""
HIDDEN = (".", "_")
"""Names of files that are not data begin with one of these: `_SUCCESS`, `.part-0.csv.crc`."""
_PARTITION = re.compile(r"([^=]+)=(.*)", re.DOTALL)


@dataclass(frozen=True)
class DataFile:
    """A file, with the columns that the names of its folders give: `year=2024`."""

    path: Path
    partition: tuple[tuple[str, str | None], ...] = ()


@dataclass(frozen=True)
class Source:
    """The files of one table, in natural order: `part-2` comes before `part-10`."""

    where: str
    """What was given, as messages name it."""
    files: tuple[DataFile, ...]
    notes: tuple[str, ...] = ()
    """What the user should know about the choice of the files, a line each."""


def named(given: Given) -> tuple[str, ...]:
    """What was given, as texts."""
    return (str(given),) if isinstance(given, (str, Path)) else tuple(map(str, given))


def where_of(given: Given | Frame, split: str = "") -> str:
    """What was given, for a split if it is named, as messages name it."""
    if isinstance(given, Frame):
        return f"the {split} data" if split else "the data"
    return listed(named(given), 2)


def short(given: Given | Frame, split: str = "") -> str:
    """What was given, as notes name it: without the folders that it lies in."""
    return where_of(given, split) if isinstance(given, Frame) else listed((Path(each).name for each in named(given)), 2)


def find_source(given: Given) -> Source:
    """The files of a table. A path that exists is never a pattern.

    Raises UsageError if there is none, a file is named twice, formats are mixed, or folders name different columns.
    """
    files: list[DataFile] = []
    notes: list[str] = []
    where = where_of(given)
    for each in named(given):
        try:
            files += _files_of(each, notes)
        except OSError as error:
            raise UsageError(
                f"it cannot be read: {error.strerror or error}", where=str(error.filename or each)
            ) from error
    if not files:
        raise UsageError("no file is given", where=where)
    files.sort(key=lambda file: _natural(file.path))
    _check_twice(files)
    if len(files) > 1:
        _check_formats(files, where)
    _check_partitions(files)
    return Source(where, tuple(files), tuple(notes))


def _files_of(text: str, notes: list[str]) -> list[DataFile]:
    path = Path(text)
    if path.is_dir():
        return _in_folder(path, path, notes)
    if path.exists():
        return [DataFile(path)]
    base, pattern = _pattern(path)
    if glob.has_magic(pattern):
        return _matching(path, base, pattern, notes)
    check_file(path)
    return [DataFile(path)]


def _pattern(path: Path) -> tuple[Path, str]:
    """The beginning of a path that is a folder, and the rest."""
    parts = path.parts
    base, count = Path(), 0
    while count < len(parts) and (base / parts[count]).is_dir():
        base, count = base / parts[count], count + 1
    return base, str(Path(*parts[count:]))


def _matching(path: Path, base: Path, pattern: str, notes: list[str]) -> list[DataFile]:
    """The files that match, and those of the folders that match."""
    files: list[DataFile] = []
    hidden = _is_hidden(Path(pattern))
    # Unlike Path.glob, it follows links to folders, and leaves out names that begin with a dot.
    for found in glob.iglob(pattern, root_dir=base, recursive=True):  # noqa: PTH207
        each = base / found
        if not hidden and _is_hidden(Path(found)):
            continue
        if each.is_dir():
            # Of `**`, which matches each folder and each file in it, the files are enough.
            files += [] if "**" in pattern else _in_folder(each, base, notes)
        else:
            files.append(DataFile(each, _partition(each, base)))
    if not files:
        names = [other.name for other in base.iterdir() if not other.name.startswith(HIDDEN)]
        hint = did_you_mean(pattern, names) if len(Path(pattern).parts) == 1 else ""
        raise UsageError(
            "no file matches the pattern", where=str(path), fix=hint or f"{base} has: {listed(sorted(names), 5)}."
        )
    return files


def _is_hidden(path: Path) -> bool:
    """Whether a part of the path is named like something that is not data."""
    return any(part.startswith(HIDDEN) for part in path.parts)


def _in_folder(folder: Path, base: Path, notes: list[str]) -> list[DataFile]:
    """The tables in a folder, and in those below it that are named like `year=2024`."""
    files: list[DataFile] = []
    strange: list[str] = []
    others: list[str] = []
    pending = [folder]
    while pending:
        place = pending.pop()
        for each in sorted(place.iterdir()):
            if each.name.startswith(HIDDEN):
                continue
            if each.is_dir():
                if _PARTITION.fullmatch(each.name):
                    pending.append(each)
                else:
                    others.append(str(each.relative_to(folder)))
            elif format_of(each) is None:
                strange.append(str(each.relative_to(folder)))
            else:
                files.append(DataFile(each, _partition(each, base)))
    if not files:
        raise UsageError(
            f"the folder has no table, only {listed([*others, *strange], 5)}" if others or strange else "it is empty",
            where=str(folder),
            fix=f"Name a folder in it, or the files with a pattern such as '{folder}/**/*.csv'."
            if others
            else "Put " + ", ".join(each.name for each in FORMATS[:-1]) + f" or {FORMATS[-1].name} files into it.",
        )
    if others:
        notes.append(f"left out: the folders in {folder} that are not named like year=2024: {listed(others, 5)}")
    if strange:
        notes.append(f"left out: the files in {folder} that are not tables: {listed(strange, 5)}")
    return files


def _partition(path: Path, base: Path) -> tuple[tuple[str, str | None], ...]:
    """The columns that the folders of a file name, from those right above `base` on."""
    folders = path.absolute().parent.parts
    start = len(base.absolute().parts)
    while start and _PARTITION.fullmatch(folders[start - 1]):
        start -= 1
    found = [_PARTITION.fullmatch(folder) for folder in folders[start:]]
    columns = [(unquote(match[1]).strip(), unquote(match[2])) for match in found if match]
    twice = [name for name, count in Counter(name for name, _ in columns).items() if count > 1]
    if twice:
        raise UsageError(f"two of its folders name a column {twice[0]!r}", where=str(path), fix="Rename one of them.")
    return tuple((name, None if value == MISSING_PARTITION else value) for name, value in columns)


def _natural(path: Path) -> list[list[tuple[bool, int, str]]]:
    """A key that sorts numbers in names by their value; equal ones by their text."""
    return [
        [(bool(text), int(number or 0), text or number) for text, number in re.findall(r"([^0-9]+)|([0-9]+)", part)]
        for part in path.parts
    ]


def _check_twice(files: Sequence[DataFile]) -> None:
    seen: dict[Path, Path] = {}
    for file in files:
        place = file.path.resolve()
        if place in seen:
            also = "" if seen[place] == file.path else f", also as {seen[place]}"
            raise UsageError(f"it is named twice{also}", where=str(file.path), fix="Name each file once.")
        seen[place] = file.path


def _check_formats(files: Sequence[DataFile], where: str) -> None:
    found: dict[Format, list[str]] = {}
    for file in files:
        found.setdefault(check_name(file.path), []).append(file.path.name)
    if len(found) > 1:
        told = ", ".join(f"{len(names)} {each.name} ({listed(names, 2)})" for each, names in found.items())
        ending = Path(next(iter(found.values()))[0]).suffix
        raise UsageError(
            f"its files have several formats: {told}",
            where=where,
            fix=f"Choose those of one format, with a pattern such as '{files[0].path.parent}/*{ending}'.",
        )


def _check_partitions(files: Sequence[DataFile]) -> None:
    first = files[0]
    for file in files:
        if [name for name, _ in file.partition] != [name for name, _ in first.partition]:
            has, had = (listed([name for name, _ in each.partition]) for each in (file, first))
            raise UsageError(
                f"the columns that its folders name ({has}) differ from those of {first.path} ({had})",
                where=str(file.path),
                fix="Every file has to lie in folders of the same names, such as year=2024/month=01.",
            )
