"""`trainer board`: starts TensorBoard for runs."""

from __future__ import annotations

import signal
import threading
from pathlib import Path
from typing import Annotated, Any, Optional

import typer

from trainer.cli.completion import folders
from trainer.errors import UsageError
from trainer.runs.names import DEFAULT_RUNS
from trainer.terminal import say

EVENT_FILES = "events.out.tfevents.*"


def board(
    runs: Annotated[
        Optional[list[Path]],  # noqa: UP045  Typer reads the annotation at run time, on Python 3.10 too
        typer.Argument(
            help="Folders of runs, or of single runs; without any, runs/.", metavar="[RUNS]...", autocompletion=folders
        ),
    ] = None,
    host: Annotated[
        str, typer.Option(help="The address to listen on; 0.0.0.0 lets other machines connect.")
    ] = "localhost",
    port: Annotated[
        Optional[int],  # noqa: UP045
        typer.Option(min=0, max=65535, help="The port; 0 for any free one. Without it, 6006 or the next free one."),
    ] = None,
) -> None:
    """Starts TensorBoard for one run or several. Prints its address; Ctrl-C ends it.

    Example: trainer board runs
    """
    chosen = runs or [DEFAULT_RUNS]
    for folder in chosen:
        _check(folder)
    server = _configured(chosen, host, port)
    ended = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: ended.set())
    say(f"TensorBoard is at {_launched(server, host, port)}  (Ctrl-C ends it)")
    ended.wait()


def _check(folder: Path) -> None:
    if not folder.is_dir():
        raise UsageError(
            f"there is no folder {folder}", where="RUNS", fix="Name the folder of your runs, or of one run."
        )
    if next(folder.rglob(EVENT_FILES), None) is None:
        raise UsageError(
            f"{folder} has no TensorBoard records",
            where="RUNS",
            fix="Train with a plugin that writes them: trainer plugins list.",
        )


def _configured(folders: list[Path], host: str, port: int | None) -> Any:
    from tensorboard import program

    if len(folders) == 1:
        data = ["--logdir", str(folders[0])]
    else:
        for folder in folders:
            if set(",:") & set(str(folder)):
                raise UsageError(f"{folder} has a comma or a colon in its name", where="RUNS", fix="Pass it alone.")
        data = ["--logdir_spec", ",".join(f"{_label(folder)}:{folder}" for folder in folders)]
    server = program.TensorBoard()
    listening = ["--host", host, *(["--port", str(port)] if port is not None else [])]
    # The fast loader is another process, which prints a message on standard error.
    server.configure(argv=["tensorboard", *data, *listening, "--load_fast=false", "--reload_interval=5"])
    return server


def _label(folder: Path) -> str:
    """What a run is called in TensorBoard: its last two folders."""
    return "/".join(folder.absolute().parts[-2:])


def _launched(server: Any, host: str, port: int | None) -> str:
    from tensorboard import program

    try:
        return str(server.launch())
    except program.TensorBoardPortInUseError as error:
        raise UsageError(
            f"port {port} is in use" if port else "the ports from 6006 on are in use",
            where="--port",
            fix="Try --port 0.",
        ) from error
    except program.TensorBoardServerException as error:
        raise UsageError(f"cannot listen on {host}: {error}", where="--host") from error
