"""The Typer application, and the exit codes of its failures: 2 for what a user can fix, 1 for a failed run."""

from __future__ import annotations

import errno
import logging
import os
import sys
import traceback
import warnings
from contextlib import suppress
from pathlib import Path
from typing import Annotated

import typer

from trainer.atomic import shown
from trainer.cli import board, coefficients, config, data, model, plugins, proofs, resume, runs
from trainer.cli.commands import Commands
from trainer.cli.help import markup
from trainer.cli.tasks import TaskGroup
from trainer.errors import PluginError, SourceError, TrainerError, UsageError, message_of
from trainer.processes import Launched, connected, launched
from trainer.processes.failures import is_told_by_another, process_of
from trainer.processes.launcher import wait_for_the_first
from trainer.terminal import (
    NotesOnce,
    OutputLost,
    SafeFormatter,
    drop_output,
    prepare_streams,
    say,
    say_traceback,
    say_warning,
)

Misuse: type[typer.BadParameter] = typer.BadParameter.__mro__[1]
"""Typer's error for a command line that it cannot read. Newer versions carry their own copy of click, so the class is
reached through the one of its kind that Typer exports."""

PROGRAM = "trainer"
COMPLETE = "_TRAINER_COMPLETE"
"""The variable by which a shell asks for completions, as Typer names it after the program."""
DISK = (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS, errno.EFBIG)
"""Errors of the disk, of which a traceback says nothing more."""

app = typer.Typer(
    name=PROGRAM,
    cls=Commands,
    help="Trains Gluon models; every part is a plugin.",
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=markup(),
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(plugins.app, name="plugins", help="Lists, describes, checks and creates plugins and tasks.")
app.add_typer(
    typer.Typer(no_args_is_help=True),
    name="run",
    cls=TaskGroup,
    help="Trains a task; trainer run TASK --help shows its options.",
    subcommand_metavar="TASK [OPTIONS]",
)


app.command("resume")(resume.resume)
app.command("evaluate")(model.evaluate)
app.command("predict")(model.predict)
app.command("export")(model.export)
app.command("coefficients")(coefficients.coefficients)
app.command("board")(board.board)
app.command("check-devices")(proofs.check_devices)
app.command("doctor")(proofs.doctor)
app.add_typer(config.app, name="config", help="Shows where the options of a run come from.")
app.add_typer(data.app, name="data", help="Shows what a run would make of a table; lists and removes caches.")
app.add_typer(runs.app, name="runs", help="Lists, shows, compares and removes runs.")


def _version(value: bool) -> None:
    if value:
        from importlib.metadata import version

        say(f"gluon-trainer {version('gluon-trainer')}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", help="Show the version.", callback=_version, is_eager=True)
    ] = False,
) -> None:
    """Trains Gluon models; every part is a plugin."""


LESS_MEMORY = "A smaller --memory or --batch-size takes less."


def run_app() -> int:
    """Runs the command line and returns the exit code."""
    if COMPLETE in os.environ:
        # A shell asks what could come next. Typer answers and exits; mistakes while typing are not reported.
        with suppress(UsageError):
            app(prog_name=PROGRAM)
        return 0
    start = launched()
    _begin_talking(start)
    command = typer.main.get_command(app)
    context = None
    try:
        # Not `app()`: it would turn an interrupted run into an exit code of its own and print errors in boxes.
        with command.make_context(PROGRAM, sys.argv[1:]) as context:
            command.invoke(context)
        sys.stdout.flush()
    except typer.Exit as done:
        return done.exit_code
    except Misuse as error:
        wait_for_the_first(start)
        return _misused(error)
    except UsageError as error:
        if connected() is None:
            wait_for_the_first(start)
        _complain(str(error), error)
        return 2
    except KeyboardInterrupt as interrupt:
        return _interrupted(interrupt)
    except BrokenPipeError:
        # The reader of the output has gone (`trainer plugins list | head`).
        drop_output()
        return 0
    except OutputLost as error:
        drop_output()
        _complain(str(error), error)
        return 1
    except Exception as error:  # noqa: BLE001  a failure: its traceback is for the author of the task or the plugin
        return _failed(error, getattr(context, "invoked_subcommand", None))
    return 0


def _failed(error: Exception, command: str | None) -> int:
    """Prints what failed, after a traceback unless the message says everything."""
    if isinstance(error, OSError) and _is_of_help(error):
        drop_output()
        _complain(f"standard output cannot be written: {error.strerror or error}", error)
        return 1
    what = "the run" if command in ("run", "resume") else f"{PROGRAM} {command or ''}".strip()
    cause = error.__cause__ or error if isinstance(error, (PluginError, SourceError)) else error
    if not _is_explained(cause):
        _show_traceback(cause, error)
    if isinstance(error, PluginError):
        _complain(str(error), error)
    else:
        kind = "" if isinstance(error, TrainerError) else f"{type(error).__name__}: "
        said = f"{kind}{message_of(error)}"
        if isinstance(cause, MemoryError):
            said = f"there is not enough memory: {message_of(cause)}. {LESS_MEMORY}"
        _complain(f"{what} failed: {said}", error)
    return 1


def _is_of_help(error: OSError) -> bool:
    """Whether the error comes from printing help, which Typer does itself and not through `say`."""
    return any(frame.f_code.co_name == "echo" for frame, _ in traceback.walk_tb(error.__traceback__))


def _is_explained(error: BaseException) -> bool:
    """Whether the message says everything: an error of this package's own, or one of the disk."""
    if isinstance(error, MemoryError):
        return True
    return isinstance(error, TrainerError) or (isinstance(error, OSError) and error.errno in DISK)


def _begin_talking(start: Launched) -> None:
    """Of several processes, only the first one prints, except for errors that only another one has."""
    prepare_streams()
    handler = logging.StreamHandler()
    handler.addFilter(NotesOnce())
    handler.setFormatter(SafeFormatter("%(levelname)s: %(message)s"))
    logging.basicConfig(handlers=[handler], level=logging.WARNING)
    warnings.showwarning = say_warning
    if not start.is_first:
        warnings.simplefilter("ignore")
        logging.getLogger().setLevel(logging.ERROR)
        sys.stdout = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115  until the process ends


def _misused(error: typer.BadParameter) -> int:
    """Prints Typer's error in our form; a command without its arguments has shown its help instead."""
    message = error.format_message()
    if not message or "\n" in message:
        say(message, err=True, block=True)
        return 2
    end = "" if message.endswith((".", "?")) else "."
    _complain(f"{message}{end} See {error.ctx.command_path if error.ctx else 'trainer'} --help.")
    return 2


def _complain(message: str, error: BaseException | None = None) -> None:
    """Prints an error; of several processes, the one that had it prints it, with its name unless all had it."""
    if is_told_by_another(error):
        return
    process = process_of(error)
    say(f"error: {process}: {message}" if process else f"error: {message}", err=True, block=True)


def _show_traceback(error: BaseException, told: BaseException) -> None:
    """Prints the traceback without the frames of the command line, which are of no use to the reader."""
    if is_told_by_another(told):
        return
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None and _is_command_line(trace.tb_frame.f_code.co_filename):
        trace = trace.tb_next
    say_traceback(error, trace)


def _is_command_line(filename: str) -> bool:
    return Path(filename).parent == Path(__file__).parent or "typer" in Path(filename).parts


def _interrupted(interrupt: KeyboardInterrupt) -> int:
    """Returns 130 after Ctrl-C, 143 after SIGTERM and so on, as shells do."""
    signum: int = getattr(interrupt, "signal", 2)
    if is_told_by_another(interrupt):
        return 128 + signum
    run = getattr(interrupt, "run", None)
    if run is not None:
        where = f" Resume with: trainer resume {shown(run.folder)}" if run.folder else ""
        say(f"interrupted at epoch {run.epoch}, after step {run.step}.{where}", err=True)
    else:
        say("interrupted.", err=True)
    return 128 + signum
