"""`trainer data cache`: lists and removes the caches of tables."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Optional

import typer

from trainer.terminal import say

if TYPE_CHECKING:
    from trainer.data.cache import Stored

app = typer.Typer(no_args_is_help=True)

SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 7 * 86_400}
_AGE = re.compile(r"(\d{1,6}) ?([smhdw])")
FILES_SHOWN = 2


def cache_ids(ctx: Any, incomplete: str) -> list[str]:
    """The caches by name, for shell completion."""
    from trainer.data.cache.listing import ID
    from trainer.data.cache.place import tables_folder

    folder = tables_folder(ctx.params.get("cache_dir"))
    names = [path.name for path in folder.iterdir()] if folder.is_dir() else []
    return sorted(name for name in names if ID.fullmatch(name) and name.startswith(incomplete))


CacheDir = Annotated[
    Optional[Path],  # noqa: UP045  Typer reads the annotation at run time, on Python 3.10 too
    typer.Option(
        help="The cache folder; by default $TRAINER_CACHE_DIR, or gluon-trainer in $XDG_CACHE_HOME or ~/.cache.",
        metavar="FOLDER",
    ),
]


@app.command("list")
def list_(
    cache_dir: CacheDir = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object per cache.")] = False,
) -> None:
    """Lists the caches of tables, the one used last at the end.

    Shows size, rows, files and last use, and whether a run uses it.

    Example: trainer data cache list
    """
    import json

    from trainer.data.cache import stored_in, tables_folder

    folder = tables_folder(cache_dir)
    found = stored_in(folder)
    if as_json:
        for each in found:
            say(json.dumps(_values(each), ensure_ascii=False))
        return
    for line in _table(found) if found else (f"no caches in {folder}",):
        say(line)


@app.command("remove")
def remove_(
    ids: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Argument(
            help="Caches to remove; the first characters are enough.", metavar="[ID]...", autocompletion=cache_ids
        ),
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="Remove all caches.")] = False,
    older_than: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(help="Remove caches that were not used for this time, such as 12h, 30d or 4w.", metavar="TIME"),
    ] = None,
    cache_dir: CacheDir = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Deletes caches of tables; asks first. A run that needs one builds it again. Caches in use are kept.

    Example: trainer data cache remove --older-than 30d
    """
    from trainer.cli.confirm import confirmed
    from trainer.data.cache import remove, stored_in, tables_folder

    folder = tables_folder(cache_dir)
    chosen = _chosen(stored_in(folder), ids or [], everything, older_than, folder)
    if not chosen:
        say(f"nothing to remove in {folder}")
        return
    if not yes:
        what = "this cache" if len(chosen) == 1 else f"these {len(chosen)} caches"
        confirmed(_table(chosen), what, where="data cache remove")
    kept = 0
    for each in chosen:
        gone = remove(each)
        kept += not gone
        say(f"removed {each.folder}" if gone else f"kept {each.folder}: it is in use")
    if kept and ids:
        raise typer.Exit(1)


def _chosen(
    found: Sequence[Stored], ids: Sequence[str], everything: bool, older_than: str | None, folder: Path
) -> list[Stored]:
    """The caches to remove. Raises UsageError if it is not clear which."""
    import time

    from trainer.errors import UsageError, choose_from

    if bool(ids) + everything + (older_than is not None) != 1:
        raise UsageError(
            "it is not clear which caches to remove",
            where="data cache remove",
            fix="Give either their IDs, --all or --older-than.",
        )
    if everything:
        return list(found)
    if older_than is not None:
        match = _AGE.fullmatch(older_than.strip())
        if match is None:
            raise UsageError(
                f"{older_than!r} is not a time",
                where="--older-than",
                fix="Use a number and a unit, such as 30d.",
            )
        before = time.time() - int(match[1]) * SECONDS[match[2]]
        return [each for each in found if each.used < before]
    chosen: dict[Path, Stored] = {}
    for name in ids:
        matches = [each for each in found if each.id.startswith(name)]
        if not matches:
            known = {each.id for each in found}
            fix = choose_from(name, known) if known else ""
            raise UsageError(f"there is no cache {name!r} in {folder}", where="ID", fix=fix)
        if len({each.id for each in matches}) > 1:
            raise UsageError(f"{len(matches)} caches begin with {name!r}", where="ID", fix="Give more characters.")
        chosen.update({each.folder: each for each in matches})
    return list(chosen.values())


def _table(found: Sequence[Stored]) -> list[str]:
    import shutil
    import sys

    from trainer.cli.table import fitted

    rows = [["id", "size", "rows", "state", "last used (UTC)", "files"], *map(list, map(_cells, found))]
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
    return fitted(rows, width, cut=(5, 2))


def _cells(each: Stored) -> Iterator[str]:
    from datetime import datetime, timezone

    from trainer.cli.run_text import size_text

    yield each.id
    yield size_text(each.size)
    yield ", ".join(f"{rows:,} {split}" for split, rows in each.rows.items()) or "–"
    yield each.state
    yield datetime.fromtimestamp(each.used, timezone.utc).strftime("%Y-%m-%d %H:%M:%S")
    more = len(each.sources) - FILES_SHOWN
    yield ", ".join(each.sources[:FILES_SHOWN]) + (f" and {more} more" if more > 0 else "") or "–"


def _values(each: Stored) -> dict[str, Any]:
    return {
        "id": each.id,
        "folder": str(each.folder),
        "state": each.state,
        "bytes": each.size,
        "rows": dict(each.rows),
        "files": list(each.sources),
        "used": each.used,
    }
