"""The scripts that a person runs first: which Python they take, and when they install."""

import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
TOOLS = ("bash", "cat", "cksum", "dirname", "env", "flock", "mkdir", "rm", "uname", "sh", "printf")

FAKE_PIP = """#!{shell}
echo "$@" >> "{log}"
case "$*" in
    *"-m venv"*) for last; do :; done; mkdir -p "$last/bin"; cp "$0" "$last/bin/python"; exit 0 ;;
    *"-m pip install"*) {install}; exit 0 ;;
    *"sys.executable"*) echo "$0"; exit 0 ;;
esac
exit 0
"""


@pytest.fixture
def project(tmp_path):
    """A copy of the scripts in a folder with a space, a PATH with no Python in it, and a way to add fake ones."""
    root = tmp_path / "a project"
    shutil.copytree(ROOT / "scripts", root / "scripts")
    for name in ("pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, root / name)
    tools = tmp_path / "bin"
    tools.mkdir()
    for tool in TOOLS:
        found = shutil.which(tool)
        if found:
            (tools / tool).symlink_to(found)
    (tools / "uname").unlink()
    script(tools / "uname", '#!/bin/sh\n[ "$1" = -s ] && echo Linux || echo x86_64\n')
    return root


def script(path, text):
    path.write_text(text)
    path.chmod(path.stat().st_mode | stat.S_IXUSR)


def fake_python(project, name="python3.11", install=""):
    """A Python that passes the version check and writes down how it was called; its pip installs a fake trainer."""
    cp = shutil.which("cp")
    tools = project.parent / "bin"
    if not (tools / "cp").exists():
        (tools / "cp").symlink_to(cp)
        (tools / "chmod").symlink_to(shutil.which("chmod"))
    fake_trainer = (
        'printf "#!/bin/sh\\necho trainer in \\$PWD: \\"\\$@\\"\\n" > "$(dirname "$0")/trainer"; '
        'chmod +x "$(dirname "$0")/trainer"'
    )
    text = FAKE_PIP.format(shell="/bin/sh", log=project.parent / "calls", install=install or fake_trainer)
    script(tools / name, text)


def call(project, *arguments, cwd=None, command="run", **environment):
    return subprocess.run(
        [str(project / "scripts" / command), *arguments],
        cwd=cwd or project,
        env={"PATH": str(project.parent / "bin"), "HOME": str(project.parent), **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def installs(project):
    log = project.parent / "calls"
    return [line for line in log.read_text().splitlines() if "pip install" in line] if log.exists() else []


def test_without_python_it_says_what_to_do(project):
    done = call(project, "logreg")
    assert done.returncode == 2
    assert "Python 3.10, 3.11 or 3.12 is needed" in done.stderr
    assert "apt-get install" in done.stderr
    assert not (project / ".venv").exists()


def test_a_name_on_the_path_that_does_not_run_is_passed_over(project):
    script(
        project.parent / "bin" / "python3.12", "#!/bin/sh\necho 'pyenv: python3.12: command not found' >&2\nexit 127\n"
    )
    fake_python(project, "python3.10")
    done = call(project, "logreg", "--epochs", "1")
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("run logreg --epochs 1\n")


def test_it_installs_once_with_the_pins_and_into_the_venv(project):
    fake_python(project)
    first, second = call(project, "logreg"), call(project, "logreg")
    assert (first.returncode, second.returncode) == (0, 0)
    (only,) = installs(project)
    assert f"--constraint {project}/constraints.txt" in only
    assert only.endswith(f"--editable {project}")
    assert "Installing" in first.stderr
    assert second.stderr == ""


@pytest.mark.parametrize("name", ["pyproject.toml", "constraints.txt"])
def test_a_change_of_what_is_declared_installs_again(project, name):
    fake_python(project)
    call(project, "logreg")
    (project / name).write_text((project / name).read_text() + "\n# changed\n")
    call(project, "logreg")
    call(project, "logreg")
    assert len(installs(project)) == 2


def test_an_install_that_failed_is_done_again(project):
    fake_python(project, install="exit 1")
    assert call(project, "logreg").returncode != 0
    shutil.rmtree(project / ".venv")
    fake_python(project)
    assert call(project, "logreg").returncode == 0


def test_the_development_environment_serves_for_running(project):
    fake_python(project)
    assert call(project, command="test").returncode == 0
    assert call(project, "logreg").returncode == 0
    (only,) = installs(project)
    assert only.endswith(f"--editable {project}[dev]")


def test_the_task_of_images_gets_its_extra_and_leaves_it_to_others(project):
    fake_python(project)
    assert call(project, "logreg").returncode == 0
    for _ in range(2):
        assert call(project, "image-classification", "--data", "photos").returncode == 0
    assert call(project, "logreg").returncode == 0
    first, second = installs(project)
    assert first.endswith(f"--editable {project}")
    assert second.endswith(f"--editable {project}[vision]")


def test_the_benchmark_runs_in_the_projects_environment(project):
    fake_python(project)
    done = call(project, "--quick", command="bench")
    assert done.returncode == 0, done.stderr
    assert (project.parent / "calls").read_text().splitlines()[-1] == "-m benchmark --quick"
    assert not (project / ".venv-bench").exists(), "the peers are installed where they are needed"


def test_the_callers_folder_stays_the_working_folder(project, tmp_path):
    fake_python(project)
    elsewhere = tmp_path / "else where"
    elsewhere.mkdir()
    done = call(project, "logreg", cwd=elsewhere)
    assert done.stdout == f"trainer in {elsewhere}: run logreg\n"


def test_a_machine_without_wheels_is_told_so(project):
    script(project.parent / "bin" / "uname", '#!/bin/sh\n[ "$1" = -s ] && echo Linux || echo aarch64\n')
    fake_python(project)
    done = call(project, "logreg")
    assert done.returncode == 2
    assert "x86-64 Linux and macOS only; this is Linux on aarch64" in done.stderr


def test_the_pins_hold_every_declared_dependency_exactly():
    import re

    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    declared = project["dependencies"] + [name for extra in project["optional-dependencies"].values() for name in extra]
    pins = (ROOT / "constraints.txt").read_text()
    for requirement in declared:
        name = re.match(r"[A-Za-z0-9_.-]+", requirement)[0].replace("_", "-").lower()
        if name == project["name"]:
            continue  # one extra that takes in another, which is looked at by itself
        assert re.search(rf"^{re.escape(name)}==\d", pins, re.MULTILINE | re.IGNORECASE), name
    assert "://" not in pins


def test_every_script_is_executable():
    for name in ("run", "test", "check", "lock", "bench"):
        assert os.access(ROOT / "scripts" / name, os.X_OK)
    assert os.access(ROOT / ".ci" / "run", os.X_OK)
