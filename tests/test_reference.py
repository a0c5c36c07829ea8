"""The pages that are made from the code are up to date, the public names change with a word in the changelog only."""

import importlib.util
import json
import re
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

from trainer.catalog import registry
from trainer.config import options
from trainer.events import EVENTS

ROOT = Path(__file__).parent.parent


@pytest.fixture
def reference():
    """scripts/reference.py as a module."""
    spec = importlib.util.spec_from_file_location("reference", ROOT / "scripts" / "reference.py")
    module = importlib.util.module_from_spec(spec)
    path = list(sys.path)
    spec.loader.exec_module(module)
    sys.path[:] = path
    return module


def test_no_page_that_is_made_from_the_code_is_stale(reference, capsys):
    assert reference.main(["--check"]) == 0, capsys.readouterr().err


def test_every_plugin_and_task_of_ours_has_a_page_with_its_doc_options_and_events():
    for group, folder in ((registry.PLUGINS, "plugins"), (registry.TASKS, "tasks")):
        names = [entry.name for entry in registry.installed(group) if entry.is_ours]
        assert sorted(path.stem for path in (ROOT / "docs" / folder).glob("*.md")) == sorted(names)
        for name in names:
            page = (ROOT / "docs" / folder / f"{name}.md").read_text(encoding="utf-8")
            cls = registry.load(group, name)
            assert cls.__doc__.splitlines()[0] in page
            assert re.findall(r"^\| `([\w-]+)` \|", page, re.MULTILINE) == [o.name for o in options.options_of(cls)]
            for event in EVENTS if group == registry.PLUGINS else ():
                assert (f"`{event}`" in page) == hasattr(cls, f"on_{event}") or event in cls.__doc__


def test_a_stale_page_and_one_of_a_plugin_that_is_gone_are_told(reference, tmp_path, monkeypatch, capsys):
    docs = tmp_path / "docs"
    (docs / "plugins").mkdir(parents=True)
    (docs / "tasks").mkdir()
    (docs / "plugins" / "gone.md").write_text("# gone\n")
    for name in ("early-stopping.md", "gradients.md"):
        (docs / name).write_text("# by hand\n")
    (tmp_path / "README.md").write_text((ROOT / "README.md").read_text(encoding="utf-8"))
    (tmp_path / "CHANGELOG.md").write_text((ROOT / "CHANGELOG.md").read_text(encoding="utf-8"))
    for name, value in (("ROOT", tmp_path), ("DOCS", docs), ("RECORD", docs / "api.json")):
        monkeypatch.setattr(reference, name, value)
    assert reference.main(["--check"]) == 1
    told = capsys.readouterr().err
    assert "stale: docs/plugins/early-stopping.md; run scripts/docs" in told
    assert "stale: docs/plugins/gone.md" in told
    assert reference.main([]) == 0
    assert "removed docs/plugins/gone.md" in capsys.readouterr().out
    assert "More: [gradients](../gradients.md)." in (docs / "plugins" / "gradient-clipping.md").read_text()
    assert reference.main(["--check"]) == 0


# ---- the public names ------------------------------------------------------------------------------------------------


def test_the_public_names_are_those_of_the_record(reference):
    """Fails when one is added, goes or is called otherwise: write a line into CHANGELOG.md, then run scripts/docs."""
    record = json.loads((ROOT / "docs" / "api.json").read_text(encoding="utf-8"))
    assert reference.called(record) == reference.surface()
    assert reference.unexplained(record, reference.surface()) == []


def test_every_public_name_is_on_the_page_of_its_module(reference):
    for module in reference.MODULES:
        page = reference.page_of(module).read_text(encoding="utf-8")
        assert re.findall(r"^## (\w+)$", page, re.MULTILINE) == import_module(module).__all__


def test_names_from_a_base_that_is_not_public_itself_are_listed(reference):
    from trainer.data import Flag, Number
    from trainer.testing import TinyWithThreshold

    names = reference.surface()
    for cls in (Flag, Number):
        assert "width" not in vars(cls)
        assert {f"{cls.__name__}.{name}" for name in ("name", "width", "feature_names", "mean")} <= set(
            names["trainer.data"]
        )
    # Its base has an entry of its own.
    assert TinyWithThreshold.__mro__[1].__name__ in names["trainer.testing"]
    assert "TinyWithThreshold.train_rows" not in names["trainer.testing"]


def test_a_change_of_a_public_name_needs_a_new_line_in_the_changelog(reference, monkeypatch):
    before = {
        "trainer": {
            "Run": {"called": "task", "mentions": 2},
            "Run.stop": {"called": "reason", "mentions": 0},
            "gone": {"called": "", "mentions": 1},
            "same": {"called": "a, b=", "mentions": 0},
        }
    }
    now = {"trainer": {"Run": "task", "Run.stop": "reason, now=", "new": "x", "same": "a, b="}}
    lines = {"gone": 1}
    monkeypatch.setattr(reference, "mentions", lambda module, name="": lines.get(name or module, 0))
    assert reference.unexplained(before, now) == ["trainer.Run.stop", "trainer.gone", "trainer.new"]
    lines |= {"new": 1, "Run.stop": 1}
    assert reference.unexplained(before, now) == ["trainer.gone"]
    lines["gone"] = 2
    assert reference.unexplained(before, now) == []


def test_a_line_on_a_new_class_covers_its_members_and_one_on_a_new_module_its_names(reference, monkeypatch):
    old = {"f": {"called": "", "mentions": 0}}
    before = {"trainer": old, "trainer.old": old}
    now = {"trainer": {"f": "", "New": "a", "New.a": ""}, "trainer.new": {"g": "x"}}
    lines = {}
    monkeypatch.setattr(reference, "mentions", lambda module, name="": lines.get(name or module, 0))
    assert reference.unexplained(before, now) == ["trainer.New", "trainer.new", "trainer.old"]
    lines |= {"New": 1, "trainer.new": 1, "trainer.old": 1}
    assert reference.unexplained(before, now) == []


def test_the_changelog_is_read_for_names_in_backticks(reference, tmp_path, monkeypatch):
    monkeypatch.setattr(reference, "ROOT", tmp_path)
    lines = "`Run.stop(reason, now)` stops at once.\n`Run.stop` again; Run.save\n`trainer.runs.flat`, `trainer.seeds`\n"
    (tmp_path / "CHANGELOG.md").write_text(lines)
    names = ("Run.stop", "Run.save", "Run", "stop")
    assert [reference.mentions("trainer", name) for name in names] == [2, 0, 0, 0]
    assert [reference.mentions("trainer.runs", "flat"), reference.mentions("trainer.data", "flat")] == [1, 0]
    assert [reference.mentions("trainer.seeds"), reference.mentions("trainer.runs")] == [1, 0]


def test_the_record_refuses_an_unexplained_change(reference, tmp_path, monkeypatch, capsys):
    record = json.loads((ROOT / "docs" / "api.json").read_text(encoding="utf-8"))
    record["trainer"]["fit"] = {"called": "something", "mentions": 99}
    (tmp_path / "api.json").write_text(json.dumps(record))
    monkeypatch.setattr(reference, "RECORD", tmp_path / "api.json")
    assert reference.main([]) == 1
    assert "CHANGELOG.md has no new line for them:\n  `trainer.fit`\n" in capsys.readouterr().err


# ---- the whole -------------------------------------------------------------------------------------------------------


def test_the_documentation_is_built_without_a_warning(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path / "site")],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    page = (tmp_path / "site" / "plugins" / "early-stopping.html").read_text(encoding="utf-8")
    assert "<code>patience</code>" in page
