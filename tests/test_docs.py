"""The documentation is held to the code: its examples run, and it names every event, option, command and plugin."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from trainer import options, registry
from trainer.config import known_keys
from trainer.events import EVENTS, Phase

ROOT = Path(__file__).parent.parent
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").rglob("*.md")])


def blocks(language):
    """Every fenced block of a language, as test parameters."""
    found = []
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        for block in re.finditer(rf"^```{language}\n(.*?)^```", text, re.DOTALL | re.MULTILINE):
            line = text[: block.start()].count("\n") + 1
            found.append(pytest.param(block[1], id=f"{page.name}:{line}"))
    return found


def prose():
    return "\n".join(page.read_text(encoding="utf-8") for page in PAGES)


@pytest.mark.parametrize("code", blocks("python"))
def test_every_python_example_runs(code, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    exec(compile(code, "<documentation>", "exec"), {"__name__": "example"})


@pytest.mark.parametrize("text", blocks("sh"))
def test_every_command_that_is_shown_is_accepted(text, tmp_path):
    """Each command is run on a table that it could have been written for, for one batch."""
    from sklearn.datasets import make_classification

    features, labels = make_classification(200, 4, random_state=0)
    rows = [
        ",".join([*map(str, row), ">50K" if label else "<=50K"]) for row, label in zip(features, labels, strict=True)
    ]
    (tmp_path / "adult.csv").write_text("\n".join(["a,b,c,d,income", *rows]))
    _to_parquet(tmp_path / "adult.csv")
    _make_run(tmp_path / "runs")
    for line in text.splitlines():
        words = shlex.split(line, comments=True)
        if words[:2] == ["trainer", "run"] and "--help" not in words:
            words.append("--dry-run")
        assert words[0] == "trainer", line
        done = subprocess.run(
            [sys.executable, "-m", *words], cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False
        )
        assert done.returncode == 0, done.stderr


def _make_run(runs_dir):
    """A run that could have been interrupted behind its last epoch."""
    from trainer.launch import Request, prepare

    sets = ["checkpoint.every-steps=100", "checkpoint.keep-last=0"]
    prepare(
        Request(
            "logreg", {"epochs": 4}, ["checkpoint"], without=["progress"], sets=sets, runs_dir=runs_dir, name="NAME"
        )
    ).train()
    path = runs_dir / "logreg" / "NAME" / "run.json"
    path.write_text(path.read_text().replace('"finished"', '"interrupted"'))


def _to_parquet(path):
    import pyarrow.csv
    import pyarrow.parquet

    pyarrow.parquet.write_table(pyarrow.csv.read_csv(path), path.with_suffix(".parquet"))


@pytest.mark.parametrize("text", blocks("toml"))
def test_every_configuration_that_is_shown_is_accepted(text, tmp_path):
    from trainer.launch import Request, prepare, read_config

    path = tmp_path / "shown.toml"
    path.write_text(text)
    config = read_config(path)
    if "project" in config:
        (group,) = config["project"]["entry-points"]
        assert group in registry.WORDS
        return
    prepare(Request("logreg", config=path, runs_dir=None))


def test_every_event_has_its_line_in_the_table():
    page = (ROOT / "docs" / "events.md").read_text(encoding="utf-8")
    assert re.findall(r"^\| `(\w+)` \|", page.split("## Order")[0], re.MULTILINE) == list(EVENTS)


def test_every_phase_has_its_line_in_order():
    page = (ROOT / "docs" / "events.md").read_text(encoding="utf-8")
    assert re.findall(r"^\| `([A-Z]+)` \|", page, re.MULTILINE) == [phase.name for phase in Phase]


def test_every_plugin_and_task_of_ours_is_named():
    for group in registry.WORDS:
        for entry in registry.installed(group):
            if entry.distribution == "gluon-trainer":
                assert entry.name in prose()


def test_every_common_setting_is_described():
    assert all(key.split(".")[-1] in prose() for key in known_keys())


def test_every_option_has_a_help_text():
    for group in registry.WORDS:
        for entry in registry.installed(group):
            if entry.distribution == "gluon-trainer":
                for option in options.options_of(registry.load(group, entry.name)):
                    assert option.help.endswith("."), f"{entry.name}.{option.name}"


def test_every_link_leads_somewhere():
    for page in PAGES:
        for target in re.findall(r"\]\(([^)#]+)", page.read_text(encoding="utf-8")):
            if "://" not in target:
                assert (page.parent / target).exists(), f"{page.name}: {target}"


def test_every_public_name_is_in_the_changelog():
    import trainer

    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert all(f"`{name}`" in changelog for name in trainer.__all__)
