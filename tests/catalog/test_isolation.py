"""Third-party packages that are broken or blocked: the list names them, and all other commands work."""

import json

import pytest
from packages import in_process as trainer
from packages import install

from trainer import API_VERSION, Plugin, Task, UsageError, fit
from trainer.catalog import api_version, class_check, registry
from trainer.catalog.registry import BLOCK_LIST, PLUGINS, TASKS

PLUGIN = """
from dataclasses import dataclass
from pathlib import Path

from trainer import Plugin

Path(__file__).with_name(__name__ + "-imported").touch()


@dataclass
class Class(Plugin):
    {body}
"""

VISIBLE = {
    "lost": ("nowhere:Class", {}, "there is no module 'nowhere'"),
    "misspelled": ("misspelled:Clas", {"misspelled": PLUGIN.format(body="pass")}, "Did you mean 'Class'?"),
    "vague": ("vague", {"vague": ""}, "it has to be MODULE:CLASS"),
    "unwritten": ("unwritten:Class", {"unwritten": "def"}, "SyntaxError: invalid syntax (line 1)"),
    "lacking": ("lacking:Class", {"lacking": "import a_module_that_is_not_there"}, "'a_module_that_is_not_there'"),
    "unlicensed": ("unlicensed:Class", {"unlicensed": "raise OSError('no license')"}, "raises OSError('no license')"),
    "deaf": ("deaf:Class", {"deaf": PLUGIN.format(body="def on_epoch_ends(self, run): ...")}, "'on_epoch_end'"),
    "hiding": ("hiding:Class", {"hiding": PLUGIN.format(body="on_error: str = ''")}, "on-error has the name of"),
    "odd.name": ("odd:Class", {"odd": PLUGIN.format(body="pass")}, "is not a valid name"),
    "optimizer": ("opt:Class", {"opt": PLUGIN.format(body="pass")}, "means something else in configurations"),
}
ONLY_WHEN_LOADED = {
    "dividing": ("dividing:Class", {"dividing": "1 / 0"}, "ZeroDivisionError: division by zero"),
    "exiting": ("exiting:Class", {"exiting": "import sys\nsys.exit(0)"}, "SystemExit"),
    "early": ("early:Class", {"early": PLUGIN.format(body="api = '99.1'")}, "version 99.1 of the engine's API"),
}


@pytest.fixture
def site(tmp_path):
    """A folder with a package for each kind of fault, a working one, and one that takes the name of ours."""
    folder = tmp_path / "site"
    for name, (value, modules, _) in {**VISIBLE, **ONLY_WHEN_LOADED}.items():
        install(folder, f"package-{name.replace('.', '-')}", {PLUGINS: {name: value}}, version="0.3", **modules)
    install(folder, "good", {PLUGINS: {"good": "good:Class"}}, good=PLUGIN.format(body="pass"))
    install(folder, "rival", {PLUGINS: {"progress": "rival:Class"}}, rival=PLUGIN.format(body="pass"))
    return folder


def imported(site):
    return sorted(path.name for path in site.glob("*-imported"))


def after(lines, name, package):
    """The line behind that of an entry point, in a listing or a report."""
    place = next(number for number, line in enumerate(lines) if name in line.split() and package in line)
    return lines[place + 1] if place + 1 < len(lines) else ""


def test_the_listing_names_every_fault_that_can_be_seen_without_an_import(site):
    done = trainer("plugins", "list", path=[site])
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    for name, (_, _, message) in VISIBLE.items():
        package = f"package-{name.replace('.', '-')} 0.3"
        assert "WRONG: " in after(lines, name, package)
        assert message in after(lines, name, package)
    assert "WRONG" not in after(lines, "good", "good 1.0")
    assert done.stdout.count("(claimed twice)") == 2
    assert imported(site) == []


def test_the_listing_names_every_fault_when_it_may_load_them(site):
    done = trainer("plugins", "list", "--load", path=[site])
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    for name, (_, _, message) in ONLY_WHEN_LOADED.items():
        assert message in after(lines, name, f"package-{name} 0.3")
    assert "that of gluon-trainer is used" in after(lines, "progress", "rival")
    assert done.stdout.count("WRONG") == len(VISIBLE) + len(ONLY_WHEN_LOADED) + 1
    assert "good-imported" in imported(site)


def test_the_doctor_names_all_of_them_with_package_version_and_error(site):
    done = trainer("doctor", path=[site])
    assert done.returncode == 1
    lines = done.stdout.splitlines()
    for name in [*VISIBLE, *ONLY_WHEN_LOADED]:
        package = f"package-{name.replace('.', '-')} 0.3"
        wrong = next(line for line in lines if "WRONG" in line and f"plugin {name!r} ({package})" in line)
        assert wrong
    assert any("'progress' is claimed by gluon-trainer" in line and "rival 1.0" in line for line in lines)


@pytest.mark.parametrize("arguments", [["run", "logreg", "--dry-run"], ["runs", "list"]])
def test_every_other_command_continues(site, arguments, tmp_path):
    (tmp_path / "runs").mkdir()
    done = trainer(*arguments, path=[site], cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert imported(site) == []


# ---- the block list --------------------------------------------------------------------------------------------------


def blocked(names, *arguments, site, cwd=None):
    return trainer(*arguments, path=[site] if site else [], cwd=cwd, **{BLOCK_LIST: names})


@pytest.mark.parametrize("names", ["good", "Good, tensorboard", "x good"])
def test_what_the_block_list_names_is_not_imported_by_anything(site, names, tmp_path):
    assert "good 1.0 (switched off)" in blocked(names.lower(), "plugins", "list", "--load", site=site).stdout
    report = blocked(names.lower(), "doctor", site=site).stdout
    assert f"good (good 1.0), switched off by {BLOCK_LIST}" in report
    done = blocked(names.lower(), "run", "logreg", "--plugin", "good", "--dry-run", site=site, cwd=tmp_path)
    assert done.returncode == 2
    assert f"error: plugin 'good' (good 1.0): it is switched off, since {BLOCK_LIST} names 'good'" in done.stderr
    assert "good-imported" not in imported(site)


def test_a_blocked_plugin_that_the_task_or_the_configuration_suggests_is_left_out_with_a_warning(site, tmp_path):
    (tmp_path / "c.toml").write_text("[plugins.good]\nno-option = 1\n[plugins.metrics-log]\n")
    done = blocked("package-lost,GOOD.,good", "run", "logreg", "--config", "c.toml", site=site, cwd=tmp_path)
    assert done.returncode == 0
    assert f"the plugin 'good' is left out: {BLOCK_LIST} names it" in done.stderr
    record = next((tmp_path / "runs").glob("*/*/plugins.json"))
    assert [each["name"] for each in json.loads(record.read_text())] == ["metrics-log"]
    assert imported(site) == []


def test_a_plugin_that_is_left_out_on_the_command_line_is_not_imported(site, tmp_path):
    (tmp_path / "c.toml").write_text("[plugins.good]\n[plugins.dividing]\n")
    flags = ["--no-plugin", "good", "--no-plugin", "dividing", "--dry-run"]
    done = trainer("run", "logreg", "--config", "c.toml", *flags, path=[site], cwd=tmp_path)
    assert (done.returncode, imported(site)) == (0, [])


def test_a_package_can_be_blocked_as_a_whole_by_its_name_as_installers_compare_it(monkeypatch):
    monkeypatch.setenv(BLOCK_LIST, "Gluon_Trainer")
    for group, name in ((PLUGINS, "progress"), (TASKS, "logreg")):
        with pytest.raises(UsageError, match="it is switched off"):
            registry.load.__wrapped__(group, name)


def test_an_option_of_a_blocked_plugin_says_why_there_is_none(monkeypatch):
    from trainer.launch.prepare import Request, prepare_run

    monkeypatch.setenv(BLOCK_LIST, "tensorboard")
    with pytest.raises(UsageError, match=f"'tensorboard' is left out, since {BLOCK_LIST} names it"):
        prepare_run(Request("logreg", sets=["tensorboard.histograms=1"], runs_dir=None))


def test_a_name_on_the_block_list_that_nothing_has_is_told():
    done = blocked("progres", "plugins", "list", site="")
    assert (done.returncode, done.stderr) == (
        0,
        f"{BLOCK_LIST} lists progres, but nothing of that name is installed\n",
    )


# ---- one that fails in the middle of a run ---------------------------------------------------------------------------


def test_an_observer_that_fails_is_switched_off_loudly_and_the_summary_repeats_it(tmp_path):
    body = "def on_batch_end(self, run):\n        if run.step == 3: raise OSError('disk is full')"
    install(tmp_path / "site", "watcher", {PLUGINS: {"watcher": "watcher:Class"}}, watcher=PLUGIN.format(body=body))
    flags = ["--plugin", "watcher", "--set", "watcher.on-error=disable", "--epochs", "1"]
    done = trainer("run", "logreg", *flags, path=[tmp_path / "site"], cwd=tmp_path)
    assert done.returncode == 0
    assert "WARNING: plugin 'watcher' in on_batch_end at epoch 1, step 3 raised OSError: disk is full" in done.stderr
    told = "WARNING: watcher was switched off at epoch 1, step 3: on_batch_end raised OSError: disk is full"
    assert told in done.stdout.split("finished after")[1]


# ---- the version of the API ------------------------------------------------------------------------------------------


MAJOR, MINOR = map(int, API_VERSION.split("."))


@pytest.mark.parametrize("wanted", ["", API_VERSION, f"{MAJOR}.0"])
def test_a_class_that_was_written_for_this_api_or_an_older_one_of_its_kind_fits(wanted):
    assert api_version.why_unfit(wanted) == ("", "")


@pytest.mark.parametrize(
    ("wanted", "fix"),
    [
        (f"{MAJOR}.{MINOR + 1}", "Update gluon-trainer."),
        (f"{MAJOR + 1}.0", "Update gluon-trainer."),
        (f"{MAJOR - 1}.9", "Update its package."),
        (1, "two numbers"),
        ("1", "two numbers"),
        ("one.two", "two numbers"),
    ],
)
def test_any_other_is_told_with_what_to_do(wanted, fix):
    what, told = api_version.why_unfit(wanted)
    assert str(wanted) in what
    assert fix in told


def test_an_instance_is_held_to_it_too():
    class Later(Plugin):
        api = "99.0"

    class LaterTask(Task):
        api = "99.0"

    for values in ({"task": "logreg", "plugins": [Later()]}, {"task": LaterTask()}):
        with pytest.raises(UsageError, match=r"Later.*version 99\.0 of the engine's API, and this is"):
            fit(runs_dir=None, **values)
    with pytest.raises(UsageError, match="Update gluon-trainer"):
        class_check.check_class(LaterTask, where="here")
