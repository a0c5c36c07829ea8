"""The documentation is held to the code: its examples run, and it names every event, option, command and plugin."""

import re
import shlex
import shutil
from pathlib import Path

import pytest
from packages import in_process
from processor import HAS_BFLOAT16

from trainer.catalog import registry
from trainer.config import options
from trainer.config.settings import known_keys
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


@pytest.fixture(scope="module")
def tables_and_runs(tmp_path_factory):
    """A folder with tables and runs that commands could have been written for."""
    from sklearn.datasets import make_classification

    folder = tmp_path_factory.mktemp("shown")
    features, labels = make_classification(200, 4, random_state=0)
    rows = [
        ",".join([*map(str, row), "female" if row[3] > 0.5 else "male", ">50K" if label else "<=50K"])
        for row, label in zip(features, labels, strict=True)
    ]
    (folder / "adult.csv").write_text("\n".join(["a,b,c,d,sex,income", *rows]))
    _to_parquet(folder / "adult.csv")
    prices = [f"{row[0]},{row[1]},{100_000 * abs(row[2])},1" for row in features]
    (folder / "houses.csv").write_text("\n".join(["a,b,price,exposure", *prices]))
    (folder / "claims.csv").write_text("\n".join(["a,b,rate,exposure", *prices]))
    clicks = [f"u{row % 1500},{row % 7},{('yes', 'no')[row % 3 % 2]}" for row in range(12_000)]
    (folder / "clicks.csv").write_text("\n".join(["user,price,click", *clicks]))
    _to_parquet(folder / "clicks.csv")
    _write_generated(folder / "new.csv", folder / "test.csv")
    _make_run(folder / "runs")
    return folder


@pytest.mark.parametrize("text", blocks("sh"))
def test_every_command_that_is_shown_is_accepted(text, tables_and_runs, tmp_path):
    """Each command is run on a table that it could have been written for, for one batch."""
    shutil.copytree(tables_and_runs, tmp_path, dirs_exist_ok=True)
    if "photos" in text:
        _write_photos(tmp_path)
    for line in text.replace("\\\n", " ").splitlines():
        words = shlex.split(line, comments=True)
        if words[:2] == ["trainer", "run"] and "--help" not in words:
            words.append("--dry-run")
        if words[:2] == ["trainer", "tune"]:
            words += ["--trials", "1", "--epochs", "1"]
        assert words[0] == "trainer", line
        done = in_process(*words[1:], cwd=tmp_path)
        if "mixed-precision" in line and "float16" not in line.replace("bfloat16", "") and not HAS_BFLOAT16:
            assert done.returncode == 2, done.stderr
            assert "does not compute in bfloat16" in done.stderr
        else:
            assert done.returncode == 0, done.stderr


def _make_run(runs_dir):
    """A run that could have been interrupted behind its last epoch."""
    from trainer.launch.prepare import Request, prepare_run

    sets = ["checkpoint.every-steps=100", "checkpoint.keep-last=0"]
    prepare_run(
        Request(
            "logreg", {"epochs": 4}, ["checkpoint"], without=["progress"], sets=sets, runs_dir=runs_dir, name="NAME"
        )
    ).train()
    path = runs_dir / "logreg" / "NAME" / "run.json"
    path.write_text(path.read_text().replace('"finished"', '"interrupted"'))
    shutil.copytree(path.parent, runs_dir / "logreg" / "OTHER")


def _write_photos(folder):
    """Images of three classes, large enough for any net, and weights to begin with."""
    from photos import write_colours

    from trainer.mxnet import mx
    from trainer_plugins.image_classification.zoo import build

    write_colours(folder / "photos", 24, size=64)
    net, _ = build("cifar_resnet20_v1", 5, weights=None, freeze="")
    net.initialize(mx.init.Xavier())
    net(mx.nd.zeros((1, 3, 32, 32)))
    net.save_parameters(str(folder / "flowers.params"))


def _write_generated(*paths):
    """Rows as the task generates them, for a run that was trained on those."""
    import numpy as np

    values = np.random.default_rng(0).normal(size=(50, 10))
    header = ["id", *(f"x{number}" for number in range(1, 11)), "label"]
    rows = [[number, *row, int(row.sum() > 1)] for number, row in enumerate(values)]
    for path in paths:
        path.write_text("\n".join(",".join(map(str, row)) for row in [header, *rows]) + "\n")


def _to_parquet(path):
    import pyarrow.csv
    import pyarrow.parquet

    pyarrow.parquet.write_table(pyarrow.csv.read_csv(path), path.with_suffix(".parquet"))


@pytest.mark.parametrize("text", blocks("toml"))
def test_every_configuration_that_is_shown_is_accepted(text, tmp_path):
    from trainer.config.settings import read_config
    from trainer.launch.prepare import Request, prepare_run

    path = tmp_path / "shown.toml"
    path.write_text(text)
    config = read_config(path)
    if "project" in config:
        (group,) = config["project"]["entry-points"]
        assert group in registry.KINDS
        return
    prepare_run(Request("logreg", config=path, runs_dir=None))


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


# ---- the page about the command line ---------------------------------------------------------------------------------


def commands():
    """Every command by its words, with Typer's own object for it."""
    import typer

    from trainer.cli.app import app

    root = typer.main.get_command(app)
    context = root.make_context("trainer", ["doctor"])
    found = {}

    def add(group, words):
        for name in group.list_commands(context):
            command = group.get_command(context, name)
            if (*words, name) in (("run",), ("tune",)):
                found[name,] = command.get_command(context, "logreg")
            elif hasattr(command, "list_commands") and "logreg" not in command.list_commands(context):
                add(command, (*words, name))
            else:
                found[(*words, name)] = command

    add(root, ())
    return found


def test_every_command_is_on_the_page_and_nothing_else():
    page = (ROOT / "docs" / "command-line.md").read_text(encoding="utf-8")
    listed = re.findall(r"^\| `trainer ([a-z -]+?)(?: [A-Z\[].*?)?` \|", page, re.MULTILINE)
    assert sorted(tuple(each.split()) for each in listed) == sorted(commands())


def test_every_command_has_an_example_of_itself_in_its_help():
    for words, command in commands().items():
        example = re.search(r"Example: (trainer [^\n]*)", command.help or "")
        assert example, words
        assert example[1].startswith(" ".join(["trainer", *words])), words


def test_every_environment_variable_that_is_read_is_on_the_page():
    page = (ROOT / "docs" / "command-line.md").read_text(encoding="utf-8")
    read = r"""(?:environ(?:\.get|\.setdefault)?[(\[]|_switch\()\s*["']([A-Z][A-Z_]+)["']"""
    for folder in ("trainer", "plugins"):
        for path in (ROOT / folder).rglob("*.py"):
            for name in re.findall(read, path.read_text(encoding="utf-8")):
                assert f"`{name}`" in page, f"{path.name}: {name}"
    for path in (ROOT / "scripts").glob("_*.sh"):
        for name in re.findall(r"\$\{(TRAINER_[A-Z]+)", path.read_text(encoding="utf-8")):
            assert f"`{name}`" in page


def test_every_exit_code_is_on_the_page():
    page = (ROOT / "docs" / "command-line.md").read_text(encoding="utf-8")
    assert re.findall(r"^\| ([\d, ]+) \|", page.split("## Exit codes")[1], re.MULTILINE) == [
        "0",
        "1",
        "2",
        "129, 130, 138, 143",
    ]
