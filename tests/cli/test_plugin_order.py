"""`trainer plugins order` and `trainer plugins show`."""

import pytest
from packages import in_process as trainer
from packages import install

from trainer.catalog.registry import PLUGINS
from trainer.events import EVENTS

MODULE = '''
"""Three plugins of one phase."""
from dataclasses import dataclass
from typing import Annotated

from pydantic import Field

from trainer import Phase, Plugin


@dataclass
class Last(Plugin):
    """Goes behind the others."""

    limit: Annotated[int, Field(ge=1, le=9, description="How many.")]

    phase = Phase.DECIDE
    after = ("first",)
    api = "2.0"

    def on_epoch_end(self, run): ...


@dataclass
class First(Plugin):
    """Goes before."""

    phase = Phase.DECIDE
    before = ("middle",)

    def on_epoch_end(self, run): ...
    def on_fit_end(self, run): ...


@dataclass
class Middle(Plugin):
    """Anywhere."""

    phase = Phase.DECIDE

    def on_fit_end(self, run): ...
'''


@pytest.fixture
def site(tmp_path):
    points = {name: f"orderly:{name.capitalize()}" for name in ("last", "first", "middle")}
    install(tmp_path / "site", "orderly", {PLUGINS: points}, version="2.0", orderly=MODULE)
    return tmp_path / "site"


def test_each_plugin_has_the_reason_for_its_place_and_each_event_its_listeners(site, tmp_path):
    flags = [f"--plugin={name}" for name in ("last", "middle", "first", "early-stopping")]
    done = trainer("plugins", "order", "logreg", *flags, "--set", "last.limit=3", "--no-plugin=progress", path=[site])
    assert (done.returncode, done.stderr) == (0, "")
    table, _, events = done.stdout.partition("\n\n")
    rows = {line.split()[1]: " ".join(line.split()[2:]) for line in table.splitlines()[1:]}
    assert list(rows) == [
        "threshold-tuner",
        "first",
        "last",
        "middle",
        "early-stopping",
        "checkpoint",
        "metrics-log",
        "tensorboard",
        "report",
    ]
    assert rows["threshold-tuner"] == "TUNE"
    assert rows["last"] == "DECIDE after first, by its own after; listed as number 1 in its phase"
    assert rows["middle"] == "DECIDE after first, by that plugin's before; listed as number 2 in its phase"
    assert rows["first"].startswith("DECIDE before last, by that plugin's after; before middle, by its own before")
    listening = {line.split()[0]: line.split(maxsplit=1)[1].split(", ") for line in events.splitlines()[1:]}
    assert list(listening) == [event for event in EVENTS if event in listening]
    assert listening["epoch_end"] == ["first", "last", "early-stopping", "checkpoint", "metrics-log", "tensorboard"]
    assert listening["fit_end"][:2] == ["first", "middle"]
    assert not list(tmp_path.glob("runs"))


def test_two_instances_have_places_of_their_own():
    done = trainer("plugins", "order", "logreg", "--plugin", "early-stopping", "--plugin", "early-stopping@f1")
    places = [line.split()[-5:] for line in done.stdout.splitlines() if " early-stopping" in line and "DECIDE" in line]
    assert [" ".join(place) for place in places] == ["number 1 in its phase", "number 2 in its phase"]


def test_the_order_of_a_configuration_file_is_that_of_its_run(tmp_path):
    (tmp_path / "c.toml").write_text("[plugins.tensorboard]\n[plugins.metrics-log]\n")
    done = trainer("plugins", "order", "logreg", "--config", "c.toml", cwd=tmp_path)
    lines = [line.split()[1] for line in done.stdout.splitlines()[1:3]]
    assert lines == ["tensorboard", "metrics-log"]
    (tmp_path / "none.toml").write_text("[plugins]\n")
    done = trainer("plugins", "order", "logreg", "--config", "none.toml", cwd=tmp_path)
    assert done.stdout == "the run uses no plugins\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["logre"], "there is no task 'logre'"),
        (["logreg", "--plugin", "progres"], "there is no plugin 'progres'"),
        (["logreg", "--set", "progress.bar=on"], "Did you mean 'bars'?"),
        (["logreg", "--config", "nowhere.toml"], "there is no such file"),
    ],
)
def test_a_mistake_is_one_line(arguments, message, tmp_path):
    done = trainer("plugins", "order", *arguments, cwd=tmp_path)
    assert (done.returncode, done.stdout, len(done.stderr.splitlines())) == (2, "", 1)
    assert message in done.stderr


def test_show_tells_everything_that_a_user_can_know(site):
    lines = trainer("plugins", "show", "last", path=[site]).stdout.splitlines()
    assert lines[0] == "last  plugin of orderly 2.0, orderly:Last"
    assert "  Goes behind the others." in lines
    assert "phase: DECIDE (makes requests based on what was measured and tuned)    on error: abort" in lines
    assert "order within its phase: after first" in lines
    assert "events: epoch_end" in lines
    assert "written for version 2.0 of the engine's API" in lines
    assert "  --set last.limit=…  (integer, ≥ 1, ≤ 9, required)" in lines
    assert lines[-1] == "example: trainer run TASK --plugin last --set last.limit=VALUE"


def test_show_tells_what_a_task_starts_with():
    out = trainer("plugins", "show", "logreg").stdout
    assert "trained for 10 epochs in batches of 10 with sgd, learning rate 0.1" in out
    assert "suggested plugins: progress, metrics-log," in out
    assert "example: trainer run logreg --" in out
