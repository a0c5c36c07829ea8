"""Third-party packages for tests, as an installer would leave them behind, and the command line."""

import importlib
import logging
import os
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path


def install(folder, name, entry_points, *, version="1.0", metadata=True, **modules):
    """Puts a distribution into a folder: its modules, METADATA, and `{group: {name: value}}` as entry_points.txt."""
    info = Path(folder) / f"{name.replace('-', '_')}-{version}.dist-info"
    info.mkdir(parents=True)
    if metadata:
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    lines = []
    for group, points in entry_points.items():
        lines += [f"[{group}]", *(f"{point} = {value}" for point, value in points.items())]
    (info / "entry_points.txt").write_text("\n".join(lines) + "\n")
    for module, source in modules.items():
        (Path(folder) / f"{module}.py").write_text(source)


def environment(*folders):
    """The environment of a process that has these folders on its path."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, folders))}


def trainer(*arguments, path=(), cwd=None):
    """Runs `trainer …` as a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "trainer", *map(str, arguments)],
        cwd=cwd,
        env=environment(*path) if path else None,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )


def in_process(*arguments, path=(), cwd=None, **variables):
    """Runs `trainer …` in this process, which takes none of the seconds in which a new one imports MXNet.

    Gives what `trainer(…)` gives, and takes variables of the environment. A process of its own is for what only that
    proves: signals, imports, the settings that MXNet reads at its import, and the end of an interpreter.
    """
    import trainer.mxnet  # noqa: F401  before the environment is noted: it arranges that too
    from trainer.cli.app import run_app

    before, folder = dict(os.environ), Path.cwd()
    argv, sys.argv = sys.argv, ["trainer", *map(str, arguments)]
    os.chdir(cwd or folder)
    os.environ.update(variables)
    try:
        with _on_the_path(path), _output() as said:
            code = run_app()
    finally:
        sys.argv = argv
        os.chdir(folder)
        for name in os.environ.keys() - before.keys():
            del os.environ[name]
        os.environ.update(before)
    return subprocess.CompletedProcess(["trainer", *map(str, arguments)], code, *said)


@contextmanager
def _on_the_path(folders):
    """Packages in these folders are installed, and forgotten afterwards."""
    from trainer.catalog import registry

    def forget():
        importlib.invalidate_caches()
        for cached in (registry.installed, registry.load):
            cached.cache_clear()

    if not folders:
        yield
        return
    places = [str(folder) for folder in folders]
    sys.path[:0] = places
    forget()
    known = set(sys.modules)
    try:
        yield
    finally:
        sys.path[:] = [place for place in sys.path if place not in places]
        for name in set(sys.modules) - known:
            file = getattr(sys.modules[name], "__file__", None)
            if file and any(Path(file).is_relative_to(place) for place in places):
                del sys.modules[name]
        forget()


@contextmanager
def _output():
    """Gives a list, which holds what was written to both outputs, by Python and by libraries, when the block ends."""
    said, root, streams = [], logging.getLogger(), (sys.stdout, sys.stderr)
    handlers, level, root.handlers = root.handlers, root.level, []
    with tempfile.TemporaryFile("w+", buffering=1) as out, tempfile.TemporaryFile("w+", buffering=1) as err:
        kept = [os.dup(number) for number in (1, 2)]
        try:
            for number, file in ((1, out), (2, err)):
                os.dup2(file.fileno(), number)
            sys.stdout, sys.stderr = out, err
            yield said
        finally:
            sys.stdout, sys.stderr = streams
            for number, copy in zip((1, 2), kept, strict=True):
                os.dup2(copy, number)
                os.close(copy)
            root.handlers = handlers
            root.setLevel(level)
            for file in (out, err):
                file.flush()
                file.seek(0)
                said.append(file.read())


def pip_install(site, *sources):
    """Builds the packages in folders with their own backends and installs them into `site`, without a network."""
    pip = [sys.executable, "-m", "pip", "install", "--disable-pip-version-check", "--quiet", "--no-deps", "--no-index"]
    done = subprocess.run(
        [*pip, "--no-build-isolation", "--target", str(site), *map(str, sources)],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def run_tests(folder, site, cwd):
    """Runs the tests of a package, as its author would, against what is installed in `site`."""
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(folder)],
        cwd=cwd,
        env=environment(site),
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
