"""The package that a new plugin or task starts from: it installs, is listed, runs and passes its own tests."""

from __future__ import annotations

import keyword
import re
import sys
from importlib import resources
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from string import Template

from trainer.atomic import new_folder, write_atomic
from trainer.catalog import registry
from trainer.catalog.api_version import API_VERSION
from trainer.errors import UsageError


def write_package(name: str, into: Path, *, is_task: bool) -> Path:
    """Writes the package `name` into a new folder of that name within `into`, complete or not at all.

    Raises UsageError for a name that is not valid or is taken, for a folder that exists, and for one that cannot be
    written.
    """
    word = "task" if is_task else "plugin"
    module = name.replace("-", "_")
    _check_name(name, module, word)
    folder = into / name
    if folder.exists():
        raise UsageError(f"{folder} exists", fix="Choose another name, or another place with --into.")
    if not into.is_dir():
        raise UsageError(f"there is no folder {into}", where="--into", fix="Make it first.")
    values = {
        "name": name,
        "module": module,
        "cls": "".join(part.capitalize() for part in name.split("-")),
        "word": word,
        "about": "Tells two kinds of points apart" if is_task else "A smoothed training loss",
        "group": registry.TASKS if is_task else registry.PLUGINS,
        "version": version("gluon-trainer"),
        "api": API_VERSION,
        "run": f"trainer run {name}" if is_task else f"trainer run TASK --plugin {name}",
    }
    files = {
        "pyproject.toml": "pyproject.toml",
        "README.md": "README.md",
        f"{module}.py": f"{word}.py",
        f"tests/test_{module}.py": "test.py",
    }
    try:
        with new_folder(folder) as new:
            for file, template in files.items():
                path = new / file
                path.parent.mkdir(parents=True, exist_ok=True)
                text = resources.files(__package__).joinpath(f"{template}.template").read_text(encoding="utf-8")
                write_atomic(path, Template(text).substitute(values))
    except OSError as error:
        raise UsageError(f"{folder} cannot be written: {error.strerror or error}", where="--into") from error
    return folder


def _check_name(name: str, module: str, word: str) -> None:
    if not re.fullmatch(r"[a-z][a-z0-9]*(-[a-z0-9]+)*", name):
        like = re.sub(r"[^a-z0-9]+", "-", re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "-", name).lower()).strip("-")
        fix = "Use lower-case letters, digits and single dashes, beginning with a letter" + (
            f": {like}." if re.match(r"[a-z]", like) else "."
        )
        raise UsageError(f"{name!r} is not a valid name for a {word}", where="NAME", fix=fix)
    for group, known in registry.WORDS.items():
        taken = next((entry for entry in registry.installed(group) if entry.name == name), None)
        if taken is not None:
            raise UsageError(f"there is already a {known} of that name: {taken}", where="NAME", fix="Choose another.")
    wrong = registry.wrong_name(name)
    if wrong:
        raise UsageError(wrong, where="NAME", fix="Choose another.")
    found = find_spec(module)
    # Any folder nearby could be imported as an empty package, which has no origin; that hides nothing.
    if keyword.iskeyword(module) or module in sys.stdlib_module_names or (found and found.origin):
        raise UsageError(
            f"a module {module} would hide one of Python's own or an installed one", where="NAME", fix="Choose another."
        )
