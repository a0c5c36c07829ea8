"""The plugin: what it records, and when."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
from pydantic import Field

from trainer import Due, Phase, Plugin, Run, UsageError
from trainer.config import as_text, to_toml
from trainer.metrics import Ranked, Ranking
from trainer.runs import CONFIG
from trainer_plugins.report.class_curves import ClassCurves
from trainer_plugins.report.curves import BinaryCurves, binary_ranking, class_rows, of_newest, reliability_of
from trainer_plugins.report.numbers import NumberCurves
from trainer_plugins.report.points import binned
from trainer_plugins.tensorboard.events import EventFile
from trainer_plugins.tensorboard.projector import write_embeddings
from trainer_plugins.tensorboard.samples import Samples

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FOLDER = "tensorboard"
MOST_PR_CURVES = 20
"""With more classes there are none."""
THRESHOLDS = 127
"""Points of a precision-recall curve: TensorBoard draws no more."""


@dataclass
class TensorBoard(Plugin):
    """Records curves, hyperparameters, configuration and the net's graph for TensorBoard, in the run's folder.

    `trainer board` shows them. Histograms wait for the device and the first charts cost about 0.5 s, so both are off by
    default; the rest costs a few microseconds per step.
    """

    every: Annotated[
        int, Field(ge=0, description="Steps between two points of batch loss and learning rate; 0 for none.")
    ] = 100
    histograms: Annotated[
        int, Field(ge=0, description="Epochs between histograms of weights and gradients; 0 for none.")
    ] = 0
    figures: Annotated[
        int, Field(ge=0, description="Epochs between charts (ROC, calibration, confusion, residuals); 0 for none.")
    ] = 0
    images: Annotated[
        int,
        Field(ge=0, le=64, description="For image tasks: how many validation images to show with their predictions."),
    ] = 16
    embeddings: Annotated[
        int, Field(ge=0, description="For columns of many categories: how many to show in the projector; 0 for none.")
    ] = 10_000
    graph: Annotated[bool, Field(description="Whether to record the net's graph.")] = True

    phase = Phase.REPORT
    logs = ()
    varying = ("file", "bytes")
    on_error = "disable"

    def __post_init__(self) -> None:
        """The file is opened in `on_setup`."""
        self._events: EventFile | None = None
        self._saved: Mapping[str, Any] = {}
        self._gradients: Mapping[str, Any] = {}
        self._by_step: set[str] = set()
        self._samples = Samples()

    def on_setup(self, run: Run) -> None:
        """Opens the file; a resumed run continues it from the checkpoint."""
        if run.folder is None:
            return
        label = self.name.partition("@")[2]
        folder = run.folder / (f"{FOLDER}-{label}" if label else FOLDER)
        saved = self._saved if run.resumed else {}
        try:
            self._events = EventFile(folder, saved.get("file"), saved.get("bytes", 0))
        except OSError as error:
            raise UsageError(
                f"{folder} cannot be written: {error.strerror or error}", where=f"plugin {self.name!r}"
            ) from error
        if not saved:
            self._describe(self._events, run)

    def on_batch_end(self, run: Run) -> None:
        """Records what was logged and, every `every` steps, the loss. Reading the loss waits for the device."""
        self._keep_gradients(run)
        points = {}
        if self.every and run.step % self.every == 0:
            points = {"train/batch-loss": run.loss, "learning-rate": run.learning_rate}
        elif not run.step_metrics:
            return
        self._by_step.update(run.step_metrics)
        if self._events is not None:
            self._events.add_scalars({**run.step_metrics, **points}, run.step)

    def next_batch_end(self, run: Run) -> Due | None:
        if self.histograms:
            return None
        return Due(run.step // self.every * self.every + self.every if self.every else math.inf, logged=True)

    def on_evaluate_begin(self, run: Run) -> None:
        """Drops the images of the previous validation."""
        self._samples.clear()

    def on_evaluate_batch_end(self, run: Run) -> None:
        """Keeps some validation images, the same ones every time."""
        if self._events is not None and self.images and run.split == "validation":
            self._samples.take(run, self.images)

    def on_epoch_end(self, run: Run) -> None:
        """Records the epoch's metrics, histograms, charts and images."""
        events = self._events
        if events is None:
            return
        # Values logged per step are already recorded at their steps.
        metrics = {name: value for name, value in run.epoch_metrics.items() if name not in self._by_step}
        self._by_step.clear()
        events.add_scalars({"epoch": run.epoch, "learning-rate": run.learning_rate, **metrics}, run.step)
        if self.histograms and run.epoch % self.histograms == 0:
            self._add_histograms(events, run)
        if self.figures and run.epoch % self.figures == 0:
            for name, figure in _charts(run):
                _add_figure(events, name, figure, run.step)
        drawn = self._samples.figure(run)
        if drawn is not None:
            _add_figure(events, "validation/samples", drawn, run.step)
        events.flush()

    def on_fit_end(self, run: Run) -> None:
        """Records the last validation's precision-recall curves, one per class, and the embeddings of categories."""
        if self._events is not None and run.status in ("finished", "stopped"):
            self._add_pr_curves(self._events, run)
            self._add_reliability(self._events, run)
            write_embeddings(self._events.path.parent, run, self.embeddings)

    def on_test_end(self, run: Run) -> None:
        """Records how well the probabilities of the test rows hold, if a plugin calibrates them."""
        if self._events is not None:
            self._add_reliability(self._events, run)

    def on_teardown(self, run: Run) -> None:
        """Records the test metrics, and how the run ended."""
        events = self._events
        if events is None:
            return
        events.add_scalars(run.end_metrics, run.step)
        if run.status != "interrupted":
            events.add_session_end(succeeded=run.status in ("finished", "stopped"))
        events.close()

    def state_dict(self) -> Mapping[str, Any]:
        """The file's name and its length in bytes, once everything is on disk; the values kept for the epoch's end."""
        if self._events is None:
            return {}
        return {
            "file": self._events.path.name,
            "bytes": self._events.flush(to_disk=True),
            "by_step": sorted(self._by_step),
            "gradients": self._gradients,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restores the state. `on_setup` cuts the file back."""
        self._saved = state
        self._by_step, self._gradients = set(state.get("by_step", ())), state.get("gradients", {})

    def _keep_gradients(self, run: Run) -> None:
        """Keeps the gradients for the epoch's histograms: the last batch's, or the first's if the last is not known."""
        if not self.histograms or run.epoch % self.histograms:
            return
        if run.last_batch or (run.steps_per_epoch is None and run.step_in_epoch == 1):
            rows = max(run.gradients.rows, 1)
            self._gradients = {name: array.asnumpy() / rows for name, array in run.named_gradients()}

    def _describe(self, events: EventFile, run: Run) -> None:
        """Records the configuration, the hyperparameters and the graph."""
        from tensorboardX import summary

        assert run.folder is not None  # noqa: S101
        config = run.folder / CONFIG
        if config.is_file():
            events.add("text", "config", summary.text("config", _as_markdown(config)), 0)
        events.add_session_start(_hyperparameters(run), run.started)
        if self.graph and run.symbol is not None:
            events.add_graph(_graph(run.symbol))

    def _add_histograms(self, events: EventFile, run: Run) -> None:
        from tensorboardX import summary

        for kind, arrays in (("weights", run.copy_weights()), ("weight-gradients", self._gradients)):
            for name, values in arrays.items():
                finite = values[np.isfinite(values)]
                if finite.size:
                    drawn = summary.histogram(name, finite.astype(np.float64), bins="auto")
                    events.add("histogram", f"{kind}/{name}", drawn, run.step)

    def _add_reliability(self, events: EventFile, run: Run) -> None:
        for name, figure in _reliability(run):
            _add_figure(events, name, figure, run.step)

    def _add_pr_curves(self, events: EventFile, run: Run) -> None:
        for name, ranking in _against_the_rest(run):
            if not ranking.has_both_classes:
                continue
            ends = ranking.at(np.unique([0, ranking.distinct - 1])).probabilities
            if not np.isfinite(ends).all():
                continue
            from tensorboardX import summary

            # A bin per threshold, the last one for a score of 1, as TensorBoard's own function does.
            counts = binned(ranking, THRESHOLDS, per_unit=THRESHOLDS - 1)
            false, true = np.cumsum(counts[:, ::-1], axis=1)[:, ::-1]
            precision = true / np.maximum(true + false, 1e-7)
            cells = true, false, false[0] - false, true[0] - true
            curve = summary.pr_curve_raw("", *cells, precision, true / max(true[0], 1e-7), THRESHOLDS)
            events.add("pr-curve", name, curve, run.step)


def _against_the_rest(run: Run) -> Iterator[tuple[str, Ranking]]:
    """Name and ranked rows of the newest validation: of two classes the positive one, of more all."""
    if run.evaluation is None or run.evaluation.split != "validation":
        return
    binary = binary_ranking(run)
    if binary is not None:
        yield "validation", binary
        return
    several = class_rows(run)
    if several is None or several[0].shape[1] > MOST_PR_CURVES or ((several[0] < 0) | (several[0] > 1)).any():
        return
    predictions, labels, weights = several
    names = list(run.task.class_names()) or [str(number) for number in range(predictions.shape[1])]
    for number, name in enumerate(names):
        yield f"validation/{name}", Ranked(predictions[:, number], labels == number, weights)


def _charts(run: Run) -> Iterator[tuple[str, Figure]]:
    """The charts of the newest validation, by tag."""
    if run.evaluation is None or run.evaluation.split != "validation":
        return
    found = of_newest(run)
    if not found:
        return
    from trainer_plugins.report import charts

    yield from _reliability(run)
    if "binary" in found:
        curves = BinaryCurves(**found["binary"])
        drawn = charts.binary_charts(curves, found["names"]) | charts.confusion_charts(curves, found["names"])
        yield from ((f"validation/{name}", figure) for name, figure in drawn.items())
        return
    if "numbers" in found:
        from trainer_plugins.report.number_charts import number_charts

        drawn = number_charts(NumberCurves(**found["numbers"]))
        yield from ((f"validation/{name}", figure) for name, figure in drawn.items())
        return
    if "class_curves" in found:
        drawn = charts.class_charts(ClassCurves(**found["class_curves"]), found["names"])
        yield from ((f"validation/{name}", figure) for name, figure in drawn.items())
    if "classes" in found:
        yield "validation/confusion", charts.confusion(np.array(found["classes"]), names=found["names"])


def _reliability(run: Run) -> Iterator[tuple[str, Figure]]:
    """The reliability of the newest evaluation before and after calibration, by tag, or nothing."""
    found = reliability_of(run)
    if found and run.evaluation is not None:
        from trainer_plugins.report.charts import reliability

        yield f"{run.evaluation.split}/reliability", reliability(found["reliability"])


def _add_figure(events: EventFile, name: str, figure: Figure, step: int) -> None:
    from tensorboardX.proto.summary_pb2 import Summary

    from trainer_plugins.report.charts import png

    data, width, height = png(figure)
    image = Summary.Image(encoded_image_string=data, width=width, height=height, colorspace=4)
    events.add("image", name, Summary(value=[Summary.Value(image=image)]), step)


def _hyperparameters(run: Run) -> dict[str, str | float | bool]:
    """Every setting and option under its flat name, and the plugins' names; lists as text."""
    flat: dict[str, str | float | bool] = {}

    def put(prefix: str, values: Mapping[str, Any]) -> None:
        for name, value in values.items():
            if isinstance(value, Mapping):
                put(f"{prefix}{name}.", value)
            else:
                flat[f"{prefix}{name}"] = value if isinstance(value, (bool, int, float)) else as_text(value)

    put("", run.settings.to_toml())
    flat["optimizer.learning-rate"] = flat.get("optimizer.learning-rate", run.learning_rate)
    put("task.", to_toml(run.task))
    flat["plugins"] = as_text([plugin.name for plugin in run.plugins])
    for plugin in run.plugins:
        put(f"{plugin.name}.", to_toml(plugin))
    return flat


def _as_markdown(config: Path) -> str:
    """The file as a Markdown code block."""
    return "".join(f"    {line}\n" for line in config.read_text(encoding="utf-8").splitlines())


def _graph(symbol: Any) -> Any:
    """MXNet's graph as a TensorBoard GraphDef, node by node."""
    from tensorboardX.proto.attr_value_pb2 import AttrValue
    from tensorboardX.proto.graph_pb2 import GraphDef
    from tensorboardX.proto.node_def_pb2 import NodeDef

    nodes = json.loads(symbol.tojson())["nodes"]
    # In TensorBoard's names a colon separates a node from its output.
    names = [node["name"].replace(":", "/") for node in nodes]
    return GraphDef(
        node=[
            NodeDef(
                name=name,
                op="Parameter" if node["op"] == "null" else node["op"],
                input=[names[index] for index, *_ in node["inputs"]],
                attr={key: AttrValue(s=str(value).encode()) for key, value in node.get("attrs", {}).items()},
            )
            for name, node in zip(names, nodes, strict=True)
        ]
    )
