"""`--against COMMIT`: an earlier commit in a temporary worktree of git, as competitors in the same rounds."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmark.competitors import Competitor
from benchmark.record import ROOT, git

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

LENGTH = 7
"""Digits of a commit's name."""


def resolved(commit: str) -> str:
    """The full name of a commit; empty if git does not know it."""
    return git("rev-parse", "--verify", "--quiet", f"{commit}^{{commit}}")


def competitors(commit: str, paths: tuple[Path, ...] = ()) -> list[Competitor]:
    """The rows of an earlier commit, by its full name."""
    short = commit[:LENGTH]
    return [
        Competitor(
            f"ours@{short}", f"gluon-trainer at {short}, default plugins", "earlier", "default_plugins", whole="whole",
            paths=paths,
        ),
        Competitor(
            f"ours-step@{short}", f"gluon-trainer's step at {short}, without the engine", "earlier", "step_loop",
            whole="step_loop", paths=paths,
        ),
    ]  # fmt: skip


@contextmanager
def checkout(commit: str) -> Iterator[tuple[Path, ...]]:
    """A worktree of the commit that is removed at the end; yields what to put on the path.

    Its packages are imported from the worktree, with the libraries of this environment. Its entry points are found
    through metadata written for it, which hide those of the installed package.
    """
    with tempfile.TemporaryDirectory(prefix="bench-earlier-") as name:
        root = Path(name) / "worktree"
        _git("worktree", "add", "--quiet", "--detach", str(root), commit)
        try:
            yield (write_metadata(root, Path(name) / "metadata"), root, root / "plugins")
        finally:
            _git("worktree", "remove", "--force", str(root))


def write_metadata(root: Path, folder: Path) -> Path:
    """Writes what an installation would have written of a project's name, version and entry points."""
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    name, version = project["name"], project.get("version", "0")
    info = folder / f"{name.replace('-', '_')}-{version}.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n", encoding="utf-8")
    lines = []
    for group, entries in project.get("entry-points", {}).items():
        lines += [f"[{group}]", *(f"{entry} = {value}" for entry, value in entries.items())]
    (info / "entry_points.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder


def _git(*arguments: str) -> None:
    subprocess.run(["git", *arguments], cwd=ROOT, check=True, capture_output=True)
