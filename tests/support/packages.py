"""Third-party packages for tests, as an installer would leave them behind, and the command line as a process."""

import os
import subprocess
import sys
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
        timeout=120,
        check=False,
    )


def pip_install(source, site):
    """Builds the package in a folder with its own backend and installs it into `site`, without a network."""
    pip = [sys.executable, "-m", "pip", "install", "--disable-pip-version-check", "--quiet", "--no-deps", "--no-index"]
    done = subprocess.run(
        [*pip, "--no-build-isolation", "--target", str(site), str(source)],
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
