"""The JSON files of a cache: `manifest.json`, what it holds, and `stamps.json`, the files that it fits."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field

from trainer.atomic import write_json
from trainer.data.cache.faults import Damaged, Gone, OtherVersion
from trainer.data.cache.key import Key, Stamp
from trainer.data.cache.layout import VERSION, Layout
from trainer.reading import Unreadable, checked, read_json

MANIFEST, STAMPS, USED, BUILDING = "manifest.json", "stamps.json", "used", "building.json"
"""`used` is locked by those who use the cache, and its time is that of the last use. The last is there while a cache is
built, for the other processes that write to it."""
DATA, SUMS, WRITTEN = ".arrow", ".sums", ".written"
"""The ends of a split's files: the rows, the checksums of their blocks, and, while they are written, which rows are
there: pairs of numbers, the first row and the one after the last."""
FILES = "files"
"""The folder of the further files."""
MOST_STAMPS = 4
"""How many sets of paths and times a cache remembers: copies of the same files in several places."""

Count = Annotated[int, Field(ge=0, lt=2**63)]
Hex = Annotated[str, Field(pattern=r"^[0-9a-f]{16}$")]
Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9._-]{0,60}$")]
"""The name of a split or of a further file: it cannot lead out of the folder."""


class _Part(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True, strict=True)


class SplitEntry(_Part):
    """A split: its rows and columns, and what its file has to look like."""

    rows: Count
    width: Count
    ids: Count
    weighted: bool
    half: bool
    bytes: Count
    begin: Count
    """Where the columns begin in the file."""
    end: Count
    """Where they end."""
    frame: Hex
    """The checksum of what stands before and after the columns."""
    sums: Hex
    """The checksum of the blocks' checksums."""

    @property
    def layout(self) -> Layout:
        """Its columns."""
        return Layout(self.width, self.ids, self.weighted, self.half)


class FileEntry(_Part):
    """A further file."""

    bytes: Count
    checksum: Hex


class Manifest(_Part):
    """`manifest.json`."""

    version: Count
    mark: Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")]
    """A random name that stands in all files of this cache."""
    created: Annotated[float, Field(ge=0)]
    settings: Any
    versions: dict[str, str]
    sources: list[str]
    """The paths of the files that it was built from."""
    content: list[Hex]
    """The checksum of each file that it was built from."""
    splits: dict[Name, SplitEntry]
    files: dict[Name, FileEntry]
    meta: Any


class _Stamp(_Part):
    path: str
    size: Count
    mtime_ns: int


class _Seen(_Part):
    certain: bool
    files: list[_Stamp]


class _Stamps(_Part):
    version: Count
    seen: list[_Seen]


class Building(_Part):
    """`building.json`: what processes that join have to know."""

    version: Count
    mark: str


Schema = TypeVar("Schema", Manifest, _Stamps, Building)


def read(folder: Path) -> Manifest:
    """The manifest of a cache. Raises Damaged, OtherVersion or Gone."""
    return _read(Manifest, folder / MANIFEST)


def check_size(folder: Path, split: str, entry: SplitEntry) -> None:
    """Raises Damaged if a split's file has another size than it was written with."""
    path = folder / f"{split}{DATA}"
    try:
        found = path.stat().st_size
    except OSError as error:
        raise Damaged(f"{path.name} cannot be read: {error.strerror or error}") from error
    if found != entry.bytes:
        raise Damaged(f"{path.name} has {found:,} bytes instead of {entry.bytes:,}")


def read_building(folder: Path) -> Building:
    """What a process that joins has to know. Raises Damaged, OtherVersion or Gone."""
    return _read(Building, folder / BUILDING)


def fits(folder: Path, key: Key) -> bool:
    """Whether a cache is known to fit the key's files, by their paths and times. Raises Damaged or Gone."""
    return any(
        each.certain and tuple(Stamp(**dict(file)) for file in each.files) == key.files for each in _seen(folder)
    )


def remember(folder: Path, key: Key) -> None:
    """Adds the key's files to those that a cache is known to fit. Raises OSError."""
    now = _Seen(certain=key.is_certain, files=[_Stamp(**vars(file)) for file in key.files])
    try:
        known = [each for each in _seen(folder) if each.files != now.files]
    except (Damaged, Gone):
        known = []
    write_json(folder / STAMPS, _Stamps(version=VERSION, seen=[now, *known[: MOST_STAMPS - 1]]).model_dump())


def _seen(folder: Path) -> list[_Seen]:
    return _read(_Stamps, folder / STAMPS).seen


def _read(schema: type[Schema], path: Path) -> Schema:
    try:
        value = read_json(path)
        version = value.get("version") if isinstance(value, dict) else None
        if isinstance(version, int) and version != VERSION:
            raise OtherVersion(f"it has version {version}, not {VERSION}")
        return checked(schema, value)
    except FileNotFoundError:
        if not path.parent.is_dir():
            raise Gone(f"{path.parent} was removed") from None
        raise Damaged(f"{path.name} is missing") from None
    except Unreadable as error:
        raise Damaged(f"{path.name}: {error}") from error
