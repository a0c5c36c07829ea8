"""`trainer predict`, `trainer evaluate` and `trainer export`: what a trained model is for."""

from __future__ import annotations

import csv
import json
import math
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Any, Optional

import typer

from trainer.errors import UsageError

if TYPE_CHECKING:
    from trainer.model.interface import RowSource
    from trainer.model.judging import Judgement
    from trainer.model.model import Model
    from trainer.model.scoring import Report

DEFAULT_RUNS = Path("runs")

RunArgument = Annotated[
    str, typer.Argument(help="A run's folder, its name in the runs folder, or a model folder.", metavar="RUN")
]
RunsDir = Annotated[Path, typer.Option(help="Where RUN is looked for.", metavar="FOLDER")]
Device = Annotated[str, typer.Option(help="Where to compute: cpu, gpu or gpu:1.", metavar="DEVICE")]


def predict(  # noqa: PLR0917  Typer passes them by name
    run: RunArgument,
    data: Annotated[str, typer.Option(help="A CSV or Parquet file; - for CSV on standard input.", metavar="FILE")],
    output: Annotated[
        str, typer.Option(help="A .csv or .parquet file to write; - for CSV on standard output.", metavar="FILE")
    ] = "-",
    keep: Annotated[
        Optional[list[str]],  # noqa: UP045  Typer reads the annotation at run time, on Python 3.10 too
        typer.Option(help="Columns of the data to copy, such as an ID; may be repeated.", metavar="COLUMN,…"),
    ] = None,
    keep_all: Annotated[bool, typer.Option("--keep-all", help="Copy all columns of the data.")] = False,
    threshold: Annotated[
        Optional[float],  # noqa: UP045
        typer.Option(help="In place of the model's: a probability above it is class 1.", metavar="NUMBER"),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace an output that exists.")] = False,
    device: Device = "cpu",
    runs_dir: RunsDir = DEFAULT_RUNS,
) -> None:
    """Predicts for every row of a file, however large, at the model's threshold.

    Example: trainer predict runs/TASK/NAME --data new.csv --output scores.csv --keep id
    """
    from trainer.model.scoring import check_output, predict_file

    # Before MXNet is imported.
    check_output(output, source=data, force=force)
    model = _load(run, device, runs_dir)
    began = time.perf_counter()
    with _terminable(), _bar("rows") as watch:
        report = predict_file(
            model,
            data,
            output,
            keep=None if keep_all else _names(keep),
            threshold=threshold,
            force=force,
            watch=watch,
        )
    _tell(report)
    seconds = time.perf_counter() - began
    where = "" if output == "-" else f" → {output}"
    typer.echo(f"{report.rows} rows{where} in {seconds:.1f} s, {report.rows / seconds:,.0f} a second", err=True)


def evaluate(  # noqa: PLR0917
    run: RunArgument,
    data: Annotated[
        str, typer.Option(help="A CSV or Parquet file with the label column; - for standard input.", metavar="FILE")
    ],
    bootstrap: Annotated[
        int, typer.Option(min=0, help="Resamples for confidence intervals; 0 for none.", metavar="INTEGER")
    ] = 0,
    confidence: Annotated[float, typer.Option(help="The level of the intervals.", metavar="NUMBER")] = 0.95,
    seed: Annotated[int, typer.Option(min=0, help="Of the resamples.", metavar="INTEGER")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="CSV, a line a metric.")] = False,
    device: Device = "cpu",
    runs_dir: RunsDir = DEFAULT_RUNS,
) -> None:
    """Judges a model by labelled rows: every metric, at the given and at the tuned threshold.

    Example: trainer evaluate runs/TASK/NAME --data test.csv --bootstrap 1000
    """
    from trainer.model.judging import evaluate_file

    if as_json and as_csv:
        raise UsageError("--json and --csv exclude each other", fix="Leave one out.")
    if not 0 < confidence < 1:
        raise UsageError(f"{confidence:g} is no level", where="--confidence", fix="Give a number between 0 and 1.")
    model = _load(run, device, runs_dir)
    with _bar("rows") as watch, _counter("resamples", bootstrap) as watch_bootstrap:
        found = evaluate_file(
            model,
            data,
            bootstrap=bootstrap,
            confidence=confidence,
            seed=seed,
            watch=watch,
            watch_bootstrap=watch_bootstrap,
        )
    _tell(found.report)
    if as_json:
        typer.echo(json.dumps(_judgement(model, data, found), indent=2, ensure_ascii=False, allow_nan=False))
    elif as_csv:
        _write_csv(found)
    else:
        for line in _table(found):
            typer.echo(line)


def export(  # noqa: PLR0917
    run: RunArgument,
    output: Annotated[Path, typer.Option(help="A .onnx file, or for mxnet a folder, to write.", metavar="PATH")],
    form: Annotated[
        str, typer.Option("--format", help="onnx: one file; mxnet: a copy of the model folder.", metavar="onnx|mxnet")
    ] = "onnx",
    raw_inputs: Annotated[
        bool,
        typer.Option("--raw-inputs", help="For onnx: put the standardisation into the graph; inputs are float64."),
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace an output that exists.")] = False,
    runs_dir: RunsDir = DEFAULT_RUNS,
) -> None:
    """Writes a model in a format that other programs load, checked against ours before it is kept.

    Example: trainer export runs/TASK/NAME --format onnx --output model.onnx
    """
    from trainer.model.export import FORMATS, check_target, copy_folder, to_onnx

    if form not in FORMATS:
        raise UsageError(f"there is no format {form!r}", where="--format", fix=f"Use {' or '.join(FORMATS)}.")
    if raw_inputs and form != "onnx":
        raise UsageError("it goes with --format onnx", where="--raw-inputs", fix="Leave it out.")
    check_target(output, form, force=force)
    model = _load(run, "cpu", runs_dir)
    if form == "mxnet":
        copy_folder(model, output)
        typer.echo(f"{output}: a copy of {model.folder}")
        return
    found = to_onnx(model, output, raw_inputs=raw_inputs)
    inputs = ", ".join(f"{name} {kind} {shape}" for name, kind, shape in found.inputs)
    typer.echo(f"{output}: takes {inputs}; gives {', '.join(found.outputs)}")
    if found.features and not raw_inputs:
        typer.echo("it takes features as the net does, encoded and standardised; its metadata names them")
    typer.echo(f"onnxruntime and this program differ by {found.difference:.1e} at most")


def _load(run: str, device: str, runs_dir: Path) -> Model:
    from trainer.model.loading import find_model, load_from

    return load_from(find_model(run, runs_dir), device=device)


def _names(keep: list[str] | None) -> list[str]:
    return [name.strip() for part in keep or () for name in part.split(",") if name.strip()]


def _tell(report: Report) -> None:
    for note in report.notes():
        typer.echo(f"note: {note}", err=True)


class Terminated(KeyboardInterrupt):
    """SIGTERM came: ends what is under way in order, as Ctrl-C does."""

    signal = signal.SIGTERM


@contextmanager
def _terminable() -> Iterator[None]:
    """Lets SIGTERM end a command in order too, so that no half-written file is left."""

    def end(_signum: int, _frame: FrameType | None) -> None:
        raise Terminated

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


# ---- bars ------------------------------------------------------------------------------------------------------------


@contextmanager
def _bar(what: str) -> Iterator[Callable[[RowSource, int], None] | None]:
    """Draws how far a source was read, on a terminal; anything else gets nothing."""
    if not sys.stderr.isatty():
        yield None
        return
    with _bars() as bars:
        task: Any = None

        def watch(source: RowSource, rows: int) -> None:
            nonlocal task
            if task is None:
                task = bars.add_task("", total=source.total)
            bars.update(task, completed=source.done, description=f"{rows:,} {what}")

        yield watch


@contextmanager
def _counter(what: str, total: int) -> Iterator[Callable[[int], None] | None]:
    if not total or not sys.stderr.isatty():
        yield None
        return
    with _bars() as bars:
        task: Any = None

        def watch(count: int) -> None:
            nonlocal task
            if task is None:
                task = bars.add_task("", total=total)
            bars.update(task, completed=count, description=f"{count:,} {what}")

        yield watch


@contextmanager
def _bars() -> Iterator[Any]:
    from rich.console import Console
    from rich.progress import BarColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
    from rich.progress import Progress as Bars

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f} %"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Bars(*columns, console=Console(stderr=True), transient=True) as bars:
        yield bars


# ---- the tables of evaluate ------------------------------------------------------------------------------------------


def _judgement(model: Model, data: str, found: Judgement) -> dict[str, Any]:
    """As JSON values: what is not finite is null."""

    def number(value: float | None) -> float | None:
        return None if value is None or not math.isfinite(value) else value

    told: dict[str, Any] = {
        "model": str(model.folder),
        "data": data,
        "rows": found.rows,
        "thresholds": {name: number(value) for name, value in found.thresholds.items()},
        "metrics": {
            name: {key: number(value) for key, value in values.items()} for name, values in found.metrics.items()
        },
        "missing": found.report.missing,
        "unseen": found.report.unseen,
    }
    if found.intervals:
        told["confidence"] = found.confidence
        told["intervals"] = {
            name: {key: [number(low), number(high)] for key, (low, high) in values.items()}
            for name, values in found.intervals.items()
        }
    return told


def _write_csv(found: Judgement) -> None:
    """A line a metric; what is not a number is empty."""
    writer = csv.writer(sys.stdout, lineterminator="\n")
    header = ["metric"]
    for name in found.metrics:
        header += [name, f"{name}-low", f"{name}-high"] if found.intervals else [name]
    writer.writerow(header)
    if any(value is not None for value in found.thresholds.values()):
        padding = ["", ""] if found.intervals else []
        row: list[Any] = ["threshold"]
        for name in found.metrics:
            row += [found.thresholds[name], *padding]
        writer.writerow(row)
    for key in next(iter(found.metrics.values())):
        row = [key]
        for name, values in found.metrics.items():
            numbers = [values[key], *(found.intervals[name][key] if found.intervals else ())]
            row += ["" if math.isnan(value) else value for value in numbers]
        writer.writerow(row)


def _table(found: Judgement) -> list[str]:
    """Aligned columns: the metric, and its value at each threshold."""
    heads = [
        name if found.thresholds[name] is None else f"{name}: {found.thresholds[name]:.4g}" for name in found.metrics
    ]
    rows = [["metric" if found.thresholds[next(iter(found.metrics))] is None else "threshold", *heads]]
    for key in next(iter(found.metrics.values())):
        cells = []
        for name, values in found.metrics.items():
            cell = _figure(key, values[key])
            if found.intervals:
                low, high = found.intervals[name][key]
                cell = f"{cell} [{_figure(key, low)}, {_figure(key, high)}]"
            cells.append(cell)
        rows.append([key, *cells])
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    tail = f"; intervals hold with {found.confidence:.0%}" if found.intervals else ""
    return [*lines, f"{found.rows} rows{tail}"]


def _figure(name: str, value: float) -> str:
    """Four decimals; whole counts without, and a dash for what is undefined."""
    if math.isnan(value):
        return "–"
    is_count = name.endswith(("positives", "negatives")) and value == int(value)
    return f"{value:.0f}" if is_count else f"{value:.4f}"
