"""The plugins that come along, all at once: who sees what of whom."""

import json
import math

import numpy as np
from processor import HAS_BFLOAT16

from trainer import fit
from trainer.catalog import registry
from trainer.dispatch import Dispatch
from trainer.events import EVENTS, Phase
from trainer.runs import checkpoint

TOGETHER = """
[plugins.metrics-log]
every = 0
[plugins.checkpoint]
every-epochs = 1
keep-last = 0
[plugins.early-stopping]
monitor = "validation/tuned-f1"
patience = 4
[plugins.threshold-tuner]
"""
"""Listed against the order in which they have to act."""


def trained(tmp_path):
    (tmp_path / "together.toml").write_text(TOGETHER)
    return fit("logreg", epochs=12, config=tmp_path / "together.toml", runs_dir=tmp_path / "runs", name="run")


def test_they_act_by_phase_whatever_the_order_of_their_listing(tmp_path):
    run = trained(tmp_path)
    dispatch = Dispatch(run.plugins)
    assert [plugin.name for plugin in run.plugins] == [
        "threshold-tuner",
        "early-stopping",
        "checkpoint",
        "metrics-log",
    ]
    for event in EVENTS:
        phases = [handler.plugin.phase for handler in dispatch.hook(event).handlers]
        assert phases == sorted(phases)
    assert Phase.TUNE < Phase.DECIDE < Phase.SAVE < Phase.REPORT


def test_the_threshold_is_tuned_then_judged_then_saved_then_logged(tmp_path):
    run = trained(tmp_path)
    assert run.folder is not None
    log = [json.loads(line) for line in (run.folder / "metrics.jsonl").read_text().splitlines()]
    lines = {line["epoch"]: line["metrics"] for line in log if line["event"] == "epoch"}
    saved = {each.manifest["epoch"]: each.read() for each in checkpoint.complete_checkpoints(run.folder)}
    assert sorted(saved) == sorted(lines) == list(range(1, run.epoch + 1))
    best = 0.0
    for epoch, state in sorted(saved.items()):
        tuned = lines[epoch]["validation/tuned-f1"]
        best = max(best, tuned)
        # Early stopping has judged this epoch's figure at this epoch's threshold before the checkpoint was written …
        assert state["plugins"]["early-stopping"]["best"] == best
        assert state["plugins"]["early-stopping"]["looks"] == epoch
        # … which holds the threshold, and so does the line of the log.
        assert state["run"]["threshold"] == lines[epoch]["validation/threshold"]
        assert state["run"]["metrics"]["validation/tuned-f1"] == tuned
    assert best > 0


NEEDED = {
    "gradient-clipping": {"norm": 5.0},
    "gradient-accumulation": {"batches": 2},
    "operating-points": {"points": ("review=recall-at-precision:0.5",)},
    "proximal": {"l1": 1e-3, "l2": 1e-3},
    "early-stopping": {"patience": 30, "restore-best": True},
    "tensorboard": {"histograms": 10, "figures": 10},
}


def test_all_of_them_at_once_run_to_the_end_and_the_ledger_has_each(tmp_path):
    """On a table of two classes with missing values and categories, for thirty epochs."""
    generator = np.random.default_rng(0)
    lines = ["size,colour,price,rich"]
    for _ in range(400):
        size, colour = generator.normal(), generator.choice(["red", "green", "blue"])
        rich = size + (colour == "red") + generator.normal() > 0.5
        price = "" if generator.uniform() < 0.1 else f"{generator.normal():.3f}"
        lines.append(f"{size:.3f},{colour},{price},{'yes' if rich else 'no'}")
    (tmp_path / "table.csv").write_text("\n".join(lines))
    names = [e.name for e in registry.installed(registry.PLUGINS) if e.distribution == "gluon-trainer"]
    names.remove("cutmix")  # It is for images alone; tests/plugins/test_mixing.py has it.
    if not HAS_BFLOAT16:
        names.remove("mixed-precision")
    plugins = [registry.create_plugin(name, NEEDED.get(name, {}), where="here") for name in names]
    run = fit(
        "logreg",
        data=tmp_path / "table.csv",
        label="rich",
        epochs=30,
        calibration_split=0.2,
        slice=("colour",),
        plugins=plugins,
        without=["progress", "metrics-log", "threshold-tuner", "checkpoint", "tensorboard", "report"],
        runs_dir=tmp_path / "runs",
    )
    assert (run.status, run.epoch) == ("finished", 30)
    assert [each for each in run.decisions if each.action == "disable"] == []
    assert {row["plugin"] for row in run.ledger()} == set(names)
    assert all(math.isfinite(value) for name, value in run.metrics.items() if "matthews" not in name)
    written = {path.name for path in run.folder.iterdir()}
    assert {"metrics.jsonl", "metrics.csv", "tensorboard", "checkpoints", "profile.json", "run.json"} <= written
