"""The report of a run: what stands in it, in a real browser, whatever became of the run."""

import json
import os
import re
import resource
import subprocess
import sys
from dataclasses import dataclass

import numpy as np
import pytest
from browser import chromium
from hypothesis import given
from hypothesis import strategies as st
from nets import Given, dense, regression
from packages import in_process as trainer
from tiny import Tiny

from trainer import Interrupted, Plugin, PluginError, fit, resume
from trainer_plugins.report.document import read
from trainer_plugins.report.metric_charts import metric_charts
from trainer_plugins.report.page import page
from trainer_plugins.report.plugin import Report
from trainer_plugins.report.weights import around_their_mean

EVIL = "<script>alert('x')</script> \"&$1$ #010203"
FIGURES = ["roc", "precision-recall", "calibration", "scores", "threshold-curve"]


def table(path, rows=300):
    generator = np.random.default_rng(0)
    lines = [f'age,"{EVIL.replace(chr(34), chr(34) * 2)}",town,rich']
    for _ in range(rows):
        age, evil, town = generator.normal(), generator.normal(), generator.choice(["<b>Ham</b>", "Ulm"])
        rich = age - evil + (town == "Ulm") + 0.5 * generator.normal() > 0
        lines.append(f"{age:.3f},{evil:.3f},{town},{'yes' if rich else 'no'}")
    path.write_text("\n".join(lines))
    return path


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A linear model of a table whose column names need escaping."""
    place = tmp_path_factory.mktemp("linear")
    data = table(place / "table.csv")
    return fit(
        "logreg", data=data, label="rich", hidden=(), epochs=4, batch_size=50, runs_dir=place / "runs", name="run",
        without=["progress"],
    )  # fmt: skip


@pytest.fixture(scope="module")
def browser():
    with chromium() as found:
        yield found


def text_of(folder):
    return page(read(folder))


@dataclass
class Deciding(Tiny):
    """Has a threshold."""

    threshold: float = 0.5


def tiny(tmp_path, *plugins, task=None, **values):
    return fit(task or Deciding(train_rows=8, validation_rows=6), plugins=[*plugins, Report()], runs_dir=tmp_path,
               name="run", **values)  # fmt: skip


class At(Plugin):
    """Does something at the end of an epoch."""

    def __init__(self, epoch, action):
        self.epoch, self.action = epoch, action

    def on_epoch_end(self, run):
        if run.epoch == self.epoch:
            self.action(run)


# ---- in a browser ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def opened(run, browser):
    """Opens the report: (page, what it complained of, what it asked for)."""
    path = run.folder / "report.html"
    path.write_text(text_of(run.folder), encoding="utf-8")

    def open_(width=1200, scheme="light", scripts=True):
        context = browser.new_context(
            viewport={"width": width, "height": 800}, color_scheme=scheme, java_script_enabled=scripts
        )
        tab, complaints, requests = context.new_page(), [], []
        tab.on("console", lambda message: complaints.append(message.text))
        tab.on("pageerror", lambda error: complaints.append(str(error)))
        tab.on("dialog", lambda dialog: complaints.append(dialog.message))
        tab.on("request", lambda request: requests.append(request.url))
        tab.goto(path.as_uri())
        return tab, complaints, requests

    return open_


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 1200])
def test_every_figure_is_seen_and_nothing_is_complained_of(opened, width, scheme):
    tab, complaints, requests = opened(width, scheme)
    names = [f"{split}-{name}" for split in ("validation", "test") for name in FIGURES]
    for name in [*names, "curve-0", "curve-1", "weights"]:
        svg = tab.locator(f"figure#{name} > svg")
        assert svg.is_visible(), name
        box = svg.bounding_box()
        assert box["width"] > 200, name
        assert box["height"] > 100, name
        assert box["x"] >= 0, name
        assert box["x"] + box["width"] <= width, name
        assert svg.get_attribute("aria-label")
    assert tab.locator("figure.confusion table").count() == 4
    assert complaints == []
    assert [url for url in requests if not url.startswith(("file:", "data:"))] == []
    assert tab.evaluate("document.documentElement.scrollWidth") <= width


def luminance(color):
    channels = [int(part) / 255 for part in re.findall(r"\d+", color)[:3]]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(first, second):
    """As WCAG defines it, from 1 to 21."""
    low, high = sorted((luminance(first), luminance(second)))
    return (high + 0.05) / (low + 0.05)


def computed(tab, selector, name):
    return tab.locator(selector).first.evaluate(f"element => getComputedStyle(element).{name}")


@pytest.mark.parametrize(("scheme", "is_dark"), [("light", False), ("dark", True)])
def test_text_and_lines_stand_out_in_both_schemes(opened, scheme, is_dark):
    tab, *_ = opened(scheme=scheme)
    paper, panel = computed(tab, "body", "backgroundColor"), computed(tab, "figure", "backgroundColor")
    assert (luminance(paper) < 0.2) is is_dark
    assert contrast(computed(tab, "body", "color"), paper) > 7
    assert contrast(computed(tab, "figcaption", "color"), panel) > 4.5
    assert contrast(computed(tab, "svg text", "fill"), panel) > 7
    lines = "[id$=line2d_1] path, figure#validation-roc [id*=line2d] path"
    strokes = tab.locator(lines).evaluate_all("all => all.map(each => getComputedStyle(each).stroke)")
    assert strokes
    assert all(contrast(stroke, panel) > 3 for stroke in strokes if stroke != "none")


def test_print_is_dark_on_white_whatever_the_scheme(opened):
    tab, *_ = opened(scheme="dark")
    tab.emulate_media(media="print", color_scheme="dark")
    assert luminance(computed(tab, "body", "backgroundColor")) == 1
    assert contrast(computed(tab, "svg text", "fill"), "rgb(255, 255, 255)") > 15
    assert tab.pdf().startswith(b"%PDF")
    for section in ("split-1", "weights-by-feature", "metrics"):
        assert computed(tab, f"#{section}", "breakBefore") == "page"
    assert computed(tab, "figure", "breakInside") == "avoid"


def test_names_from_the_data_are_text_and_no_script_is_needed(opened, run):
    tab, complaints, _ = opened(scripts=False)
    assert tab.locator("script").count() == 0
    assert tab.locator("figure b").count() == 0
    weights = tab.locator("#weights-by-feature").inner_text()
    assert EVIL in weights
    assert "town=<b>Ham</b>" in weights
    labels = tab.locator("figure#weights svg text").all_text_contents()
    assert {"age", "town=<b>Ham</b>"} <= set(labels)
    assert any(EVIL[:25] in label for label in labels)
    assert complaints == []


# ---- what it says ----------------------------------------------------------------------------------------------------


def test_the_confusion_matrices_agree_with_the_metrics(run):
    splits = read(run.folder).data["splits"]
    names = ("true-negatives", "false-positives", "false-negatives", "true-positives")
    for split in ("validation", "test"):
        for kind, prefix in (("given", ""), ("tuned", "tuned-")):
            found = splits[split]["binary"]["confusion"][kind]
            assert [count for row in found["counts"] for count in row] == [
                run.metrics[f"{split}/{prefix}{name}"] for name in names
            ]
        assert splits[split]["binary"]["roc_auc"] == run.metrics[f"{split}/roc-auc"]
        assert sum(map(sum, splits[split]["binary"]["scores"].values())) == splits[split]["rows"] == 60


def test_weights_plugins_decisions_and_configuration_are_told(run):
    text = text_of(run.folder)
    told = dict(zip(*(read(run.folder).data["weights"][key] for key in ("names", "values")), strict=True))
    assert told == pytest.approx(
        dict(zip(run.task.feature_names(), run.copy_weights()["0.weight"].ravel(), strict=True))
    )
    for name in ("threshold-tuner", "checkpoint", "training has ended", "gluon-trainer 0.1.0", "mxnet"):
        assert name in text
    assert "learning-rate = 0.1" in text


def test_the_cards_say_what_a_net_without_learning_reaches(opened, run):
    tab, *_ = opened()
    notes = {
        card.inner_text().split()[0]: card.locator("small").all_inner_texts() for card in tab.locator(".tile").all()
    }
    share = read(run.folder).data["splits"]["validation"]["binary"]["positive_share"]
    assert notes["validation/accuracy"] == [f"largest class alone: {max(share, 1 - share):.4g}"]
    assert notes["validation/roc-auc"] == notes["test/roc-auc"] == ["chance: 0.5"]
    assert notes["validation/average-precision"] == [f"chance: {share:.4g}"]
    assert notes["train/loss"] == notes["validation/loss"] == []


def test_classes_have_their_names_and_the_best_epoch_is_marked(opened, run):
    tab, *_ = opened()
    matrix = tab.locator("figure.confusion").first.inner_text()
    assert all(f"{word} {name}" in matrix for word in ("actual", "predicted") for name in ("no", "yes"))
    assert "rows of class yes" in tab.locator("figure#validation-scores").inner_text()
    assert "A dot marks the best epoch." in tab.locator("figure#curve-0").inner_text()
    losses = [entry["validation/loss"] for entry in run.history]
    expected = f"{losses.index(min(losses)) + 1} of 4, by validation/loss ({min(losses):.5g})"
    assert expected in tab.locator("#run").inner_text()


def test_a_weighted_training_loss_is_named_so_in_a_chart_of_its_own(tmp_path):
    run = tiny(tmp_path, task=Deciding(train_rows=8, validation_rows=6, weighted=True), epochs=2, batch_size=4)
    charts = list(metric_charts(read(run.folder)))
    assert [chart.title for chart in charts[:2]] == ["Loss", "Training loss, weighted"]
    assert "train/loss (weighted)" in charts[1].svg
    assert "train/loss" not in charts[0].svg


@given(
    st.lists(st.tuples(st.sampled_from("abc"), st.integers(-100, 100)), min_size=1),
    st.dictionaries(st.sampled_from("abc"), st.integers(-100, 100)),
)
def test_weights_around_their_mean_change_no_output_and_ignore_what_the_constant_could_hold(features, offsets):
    columns, values = [column for column, _ in features], [float(value) for _, value in features]
    grouped = {column for column in columns if columns.count(column) > 1}
    centred, shift = around_their_mean(values, columns)
    row = [columns.index(column) for column in dict.fromkeys(columns)]
    assert sum(centred[at] for at in row) + shift == pytest.approx(sum(values[at] for at in row), abs=1e-6)
    moved = [
        value + (offsets.get(column, 0) if column in grouped else 0)
        for value, column in zip(values, columns, strict=True)
    ]
    assert around_their_mean(moved, columns)[0] == pytest.approx(centred, abs=1e-6)


def test_a_noise_column_stands_below_real_ones(tmp_path):
    # All weights of a column of categories share a part that belongs to the constant.
    found = {"names": ["n=x", "n=y", "age"], "values": [1.0, 1.1, 0.5], "columns": ["n", "n", "age"]}
    values, shift = around_their_mean(found["values"], found["columns"])
    assert values == pytest.approx([-0.05, 0.05, 0.5])
    assert shift == pytest.approx(1.05)


def test_it_keeps_curves_and_no_rows(tmp_path):
    data = table(tmp_path / "table.csv", rows=20_000)
    run = fit("logreg", data=data, label="rich", epochs=1, batch_size=500, runs_dir=tmp_path, name="run",
              without=["progress"])  # fmt: skip
    assert (run.folder / "report.json").stat().st_size < 400_000
    assert len(text_of(run.folder)) < 1_500_000


@pytest.mark.parametrize(
    "task",
    [
        Tiny(train_rows=8, validation_rows=0),
        Given(regression(12), regression(5, seed=1), make_net=lambda: dense(3)),
    ],
    ids=["no validation", "regression"],
)
def test_what_does_not_apply_is_left_out(tmp_path, task):
    run = tiny(tmp_path, task=task, epochs=2, batch_size=4)
    text = text_of(run.folder)
    assert 'id="curve-0"' in text
    assert 'class="confusion"' not in text
    assert 'id="weights' not in text
    assert all(f'-{name}"' not in text for name in FIGURES)


def test_a_run_without_the_plugin_has_its_curves_costs_and_configuration(tmp_path):
    run = fit("logreg", epochs=2, train_rows=50, without=["report", "progress"], runs_dir=tmp_path, name="run")
    text = text_of(run.folder)
    assert 'id="curve-0"' in text
    assert 'id="validation-roc"' not in text
    assert "train-rows = 50" in text


def test_without_a_log_of_metrics_it_keeps_the_epochs_itself(tmp_path):
    run = tiny(tmp_path, epochs=3)
    assert not (run.folder / "metrics.jsonl").exists()
    assert [entry["epoch"] for entry in read(run.folder).history] == [1, 2, 3]


def fail(run):
    raise RuntimeError("no <disk>")


def test_a_failed_run_says_why_and_has_what_it_came_to(tmp_path):
    with pytest.raises(PluginError):
        tiny(tmp_path, At(2, fail), epochs=4)
    text = text_of(tmp_path / "tiny" / "run")
    assert 'class="status failed"' in text
    assert "no &lt;disk&gt;" in text
    assert 'id="validation-roc"' in text


def test_an_interrupted_run_and_one_whose_process_is_gone_say_so(tmp_path):
    import signal

    with pytest.raises(Interrupted):
        tiny(tmp_path, At(1, lambda run: signal.raise_signal(signal.SIGINT)), epochs=4)
    folder = tmp_path / "tiny" / "run"
    assert 'class="status interrupted"' in text_of(folder)
    record = json.loads((folder / "run.json").read_text())
    record |= {"status": "running", "process": {**record["process"], "started": 1.0}}
    (folder / "run.json").write_text(json.dumps(record))
    assert 'class="status crashed"' in text_of(folder)


def test_a_resumed_run_has_all_epochs_and_its_newest_end(tmp_path):
    run = fit("logreg", epochs=2, train_rows=50, without=["progress"], runs_dir=tmp_path, name="run")
    trainer("report", run.folder)
    assert (run.folder / "report.html").is_file()
    again = resume(run.folder, epochs=4)
    assert not (run.folder / "report.html").exists()
    found = read(again.folder)
    assert [entry["epoch"] for entry in found.history] == [1, 2, 3, 4]
    assert found.data["splits"]["validation"]["epoch"] == 4


@pytest.mark.parametrize("broken", ["{", "[]", '{"schema": 99}'])
def test_numbers_that_cannot_be_read_are_named_and_left_out(tmp_path, broken):
    run = tiny(tmp_path, epochs=2)
    (run.folder / "report.json").write_text(broken)
    assert "report.json" in text_of(run.folder)


def test_the_same_run_gives_the_same_page(run):
    first, second = (re.sub(r"Written [^<]*", "", text_of(run.folder)) for _ in range(2))
    assert first == second


# ---- when it is written ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("html", "there"), [("always", True), ("never", False), ("auto", False)])
def test_a_short_run_leaves_the_drawing_to_the_command_unless_told_otherwise(tmp_path, html, there):
    run = fit(Tiny(), plugins=[Report(html=html)], runs_dir=tmp_path, name="run")
    assert (run.folder / "report.html").exists() is there
    assert len(run.notes) == (html != "never")
    if there:
        assert 'class="status finished"' in (run.folder / "report.html").read_text(encoding="utf-8")


def test_a_long_run_ends_with_it(tmp_path, monkeypatch):
    monkeypatch.setattr("trainer_plugins.report.plugin.LONG_SECONDS", 0)
    run = fit(Tiny(), plugins=[Report()], runs_dir=tmp_path, name="run")
    assert (run.folder / "report.html").exists()


def test_the_command_writes_where_it_is_told_and_over_nothing(run, tmp_path):
    assert trainer("report", run.folder, "--output", tmp_path / "r.html").returncode == 0
    before = (tmp_path / "r.html").read_text(encoding="utf-8")
    assert before.startswith("<!DOCTYPE html>")
    done = trainer("report", run.folder, "--output", tmp_path / "r.html")
    assert (done.returncode, done.stdout) == (2, "")
    assert "it already exists. Pass --force to overwrite it." in done.stderr
    assert trainer("report", run.folder, "--output", tmp_path / "r.html", "--force").returncode == 0
    for wrong, message in (
        (("report", tmp_path), "is not the folder of a run"),
        (("report", "nothing", "--runs-dir", tmp_path), "there is no run 'nothing'"),
        (("report", run.folder, "--output", tmp_path / "no" / "r.html"), "there is no folder"),
        (("report", run.folder, "--output", tmp_path), "it is a folder"),
    ):
        done = trainer(*wrong)
        assert done.returncode == 2
        assert message in done.stderr


def test_a_full_disk_leaves_no_half_report(run, tmp_path):
    limit = (20_000, 20_000)
    done = subprocess.run(
        [sys.executable, "-m", "trainer", "report", str(run.folder), "--output", str(tmp_path / "r.html")],
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, limit),
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 2, done.stderr
    assert "cannot be written: File too large" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_the_command_imports_no_mxnet(run, tmp_path):
    code = (
        "import sys\n"
        f"sys.argv = ['trainer', 'report', {str(run.folder)!r}, '--output', {str(tmp_path / 'r.html')!r}]\n"
        "from trainer.cli.app import run_app\nassert run_app() == 0\nassert 'mxnet' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
