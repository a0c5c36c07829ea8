"""`trainer predict`, `trainer evaluate` and `trainer export`: the commands that use a trained model."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Optional

import typer

from trainer.bars import count_bar, read_bar
from trainer.errors import UsageError, listed
from trainer.runs.names import DEFAULT_RUNS
from trainer.terminal import say

if TYPE_CHECKING:
    from trainer.model.model import Model
    from trainer.model.predict import Report

RunArgument = Annotated[
    str, typer.Argument(help="A run's folder, its name in the runs folder, or a model folder.", metavar="RUN")
]
RunsDir = Annotated[Path, typer.Option(help="The folder in which to look for RUN.", metavar="FOLDER")]
SkipCorrupt = Annotated[
    bool, typer.Option("--skip-corrupt", help="Leave out images that cannot be decoded, and name them.")
]
Device = Annotated[str, typer.Option(help="Where to compute: cpu, gpu or gpu:1.", metavar="DEVICE")]


def predict(  # noqa: PLR0917  Typer passes them by name
    run: RunArgument,
    data: Annotated[
        list[str],
        typer.Option(
            help="Files, folders or patterns; - for CSV on standard input; may be repeated.", metavar="FILE,…"
        ),
    ],
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
        typer.Option(help="Overrides the model's threshold: a probability above it is class 1.", metavar="NUMBER"),
    ] = None,
    capacity: Annotated[
        Optional[int],  # noqa: UP045
        typer.Option(
            min=1,
            help="Writes only so many rows: those with the highest probability of class 1, or the highest number, the "
            "highest first.",
            metavar="INTEGER",
        ),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace an output that exists.")] = False,
    skip_corrupt: SkipCorrupt = False,
    device: Device = "cpu",
    runs_dir: RunsDir = DEFAULT_RUNS,
) -> None:
    """Predicts every row of a file of any size. Two classes are decided by the model's threshold.

    Example: trainer predict runs/TASK/NAME --data new.csv --output scores.csv --keep id
    """
    from trainer.model.predict import check_output, predict_file

    # Checked before MXNet is imported.
    source = _source(data)
    check_output(output, source=source, force=force)
    model = _load(run, device, runs_dir)
    began = time.perf_counter()
    with _terminable(), read_bar("rows") as watch:
        report = predict_file(
            model,
            source,
            output,
            keep=None if keep_all else _names(keep),
            threshold=threshold,
            force=force,
            skip_corrupt=skip_corrupt,
            capacity=capacity,
            watch=watch,
        )
    _tell(report, model)
    seconds = time.perf_counter() - began
    where = "" if output == "-" else f" → {output}"
    most = "" if capacity is None or report.rows <= capacity else f", the highest {capacity}"
    say(f"{report.rows} rows{most}{where} in {seconds:.1f} s, {report.rows / seconds:,.0f} per second", err=True)


def evaluate(  # noqa: PLR0917
    run: RunArgument,
    data: Annotated[
        list[str],
        typer.Option(
            help="Files, folders or patterns with the label column; - for standard input; may be repeated.",
            metavar="FILE,…",
        ),
    ],
    bootstrap: Annotated[
        int, typer.Option(min=0, help="Resamples for confidence intervals; 0 for none.", metavar="INTEGER")
    ] = 0,
    confidence: Annotated[float, typer.Option(help="The level of the intervals.", metavar="NUMBER")] = 0.95,
    seed: Annotated[int, typer.Option(min=0, help="The seed of the resamples.", metavar="INTEGER")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print CSV, one line per metric.")] = False,
    skip_corrupt: SkipCorrupt = False,
    memory: Annotated[
        str,
        typer.Option(
            help="How much memory the scores may take: a size such as 4GB; auto: half of what is free. More are in "
            "temporary files, except for --bootstrap.",
            metavar="SIZE",
        ),
    ] = "auto",
    device: Device = "cpu",
    runs_dir: RunsDir = DEFAULT_RUNS,
) -> None:
    """Evaluates a model on labelled rows. Shows every metric at the given and at the tuned threshold.

    Example: trainer evaluate runs/TASK/NAME --data test.csv --bootstrap 1000
    """
    from trainer.cli.evaluation_text import as_lines, told, write_csv
    from trainer.model.evaluate import evaluate_file

    if as_json and as_csv:
        raise UsageError("--json and --csv cannot be combined", fix="Leave one out.")
    if not 0 < confidence < 1:
        raise UsageError(
            f"{confidence:g} is not a confidence level", where="--confidence", fix="Give a number between 0 and 1."
        )
    source = _source(data)
    model = _load(run, device, runs_dir)
    with read_bar("rows") as watch, count_bar("resamples", bootstrap) as watch_bootstrap:
        found = evaluate_file(
            model,
            source,
            bootstrap=bootstrap,
            confidence=confidence,
            seed=seed,
            skip_corrupt=skip_corrupt,
            memory=memory,
            watch=watch,
            watch_bootstrap=watch_bootstrap,
        )
    _tell(found.report, model)
    if as_json:
        say(json.dumps(told(model, source, found), indent=2, ensure_ascii=False, allow_nan=False), block=True)
    elif as_csv:
        write_csv(found)
    else:
        for line in as_lines(found):
            say(line)


def export(  # noqa: PLR0917
    run: RunArgument,
    output: Annotated[Path, typer.Option(help="The .onnx file to write, or for mxnet the folder.", metavar="PATH")],
    form: Annotated[
        str, typer.Option("--format", help="onnx: one file; mxnet: a copy of the model folder.", metavar="onnx|mxnet")
    ] = "onnx",
    raw_inputs: Annotated[
        bool,
        typer.Option("--raw-inputs", help="For onnx: include the standardisation in the graph; inputs are float64."),
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace an output that exists.")] = False,
    runs_dir: RunsDir = DEFAULT_RUNS,
) -> None:
    """Exports a model for other programs. An ONNX file is checked against the model before it is kept.

    Example: trainer export runs/TASK/NAME --format onnx --output model.onnx
    """
    from trainer.model.export import FORMATS, check_target, copy_folder, to_onnx

    if form not in FORMATS:
        raise UsageError(f"unknown format {form!r}", where="--format", fix=f"Use {' or '.join(FORMATS)}.")
    if raw_inputs and form != "onnx":
        raise UsageError("it only works with --format onnx", where="--raw-inputs", fix="Leave it out.")
    check_target(output, form, force=force)
    model = _load(run, "cpu", runs_dir)
    if form == "mxnet":
        copy_folder(model, output)
        say(f"{output}: a copy of {model.folder}")
        return
    found = to_onnx(model, output, raw_inputs=raw_inputs)
    inputs = ", ".join(f"{name} {kind} {shape}" for name, kind, shape in found.inputs)
    say(f"{output}: takes {inputs}; gives {', '.join(found.outputs)}")
    if found.features and not raw_inputs:
        say("inputs are the net's features, encoded and standardised; the file's metadata names them")
    if found.ids:
        say(
            f"the ids are those of {listed(found.ids, 8)}; the metadata has the rule of each (ids) and a reference "
            "function (ids_reference)"
        )
    say(f"onnxruntime and MXNet differ by at most {found.difference:.1e}")


def _load(run: str, device: str, runs_dir: Path) -> Model:
    from trainer.model.load import find_model, load_from

    return load_from(find_model(run, runs_dir), device=device)


def _source(data: list[str]) -> str | tuple[str, ...]:
    """What --data names: given once, it may list several; repeated, each is a path."""
    from trainer.config.text import paths_of

    found = tuple(data) if len(data) > 1 else paths_of(data[0])
    return found[0] if len(found) == 1 else found


def _names(keep: list[str] | None) -> list[str]:
    from trainer.config.text import parts_of

    # Given once, it may list several; repeated, each is a name, which may have a comma.
    names = keep or []
    return [name.strip() for name in names] if len(names) > 1 else [part for name in names for part in parts_of(name)]


def _tell(report: Report, model: Model) -> None:
    for note in report.notes():
        say(f"note: {note}", err=True)
    if model.calibrator is not None:
        say(f"note: probabilities are calibrated: {model.calibrator.describe()}", err=True)


class Terminated(KeyboardInterrupt):
    """A signal arrived: the command shuts down cleanly, as for Ctrl-C."""

    def __init__(self, signum: int) -> None:
        self.signal = signum
        super().__init__()


@contextmanager
def _terminable() -> Iterator[None]:
    """Makes SIGTERM and SIGHUP shut the command down cleanly too, so no half-written file is left."""

    def end(signum: int, _frame: FrameType | None) -> None:
        raise Terminated(signum)

    ignored = signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    numbers = [signal.SIGTERM] if ignored else [signal.SIGTERM, signal.SIGHUP]
    before = {number: signal.signal(number, end) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
