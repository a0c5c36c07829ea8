"""Builds a run: devices, data, net, step and plugins, with every check that can be made before training."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from trainer import devices
from trainer.config import options
from trainer.config.settings import OPTIMIZER, Settings
from trainer.data.addressed import fingerprint_of_splits
from trainer.data.batches import Batches
from trainer.data.slices import check_slices
from trainer.data.sources import as_batches
from trainer.data.split_names import JUDGED, SPLITS
from trainer.dispatch import Dispatch
from trainer.engine_state import EngineState
from trainer.errors import UsageError, first_line, listed
from trainer.events import Phase, Plugin
from trainer.metrics.evalmetric import as_metrics
from trainer.order_choice import with_order
from trainer.processes import Processes
from trainer.processes.replicas import share_weights
from trainer.run import Run
from trainer.seeding import Seeder
from trainer.seeds import derive
from trainer.solver import all_rows, check_solver, optimizer_for, solver_step
from trainer.task import Task

if TYPE_CHECKING:
    from trainer.mxnet import Context
    from trainer.step import Step
    from trainer.step.symbol import Graph

log = logging.getLogger("trainer")


@dataclass(frozen=True)
class Built:
    """A run that is ready for its first event, the engine's part of it, and the plugins' hooks."""

    run: Run
    state: EngineState
    dispatch: Dispatch


def build_run(
    task: Task,
    settings: Settings,
    plugins: Sequence[Plugin],
    *,
    run_folder: Path | None,
    compiled: bool = True,
    processes: Processes | None = None,
    resumed: bool = False,
) -> Built:
    """Builds everything that training needs. Raises UsageError for mistakes that the user can fix.

    All processes have to call it. Only the first one uses the plugins that save or report. `resumed` says that the run
    continues from a checkpoint.
    """
    # Not at the top: importing the engine must not import MXNet, which fixes its CPU settings on import.
    from trainer.mxnet import mx
    from trainer.step.micro_batches import parts_on

    processes = processes or Processes()
    state = EngineState()
    # With several processes, the first one saves and reports for all.
    dispatch = Dispatch(plugins, state, until=None if processes.is_first else Phase.SAVE)
    options.check_instance(task, where=f"task {task.name!r}")
    task.check()
    contexts = devices.contexts(settings.devices, processes.local_rank, processes.local_size)
    check_solver(settings, dispatch.plugins, contexts, processes)
    parts = None if settings.micro_batches is None else parts_on(contexts, settings.micro_batches, processes.size)
    optimizer = optimizer_for(settings)
    run = Run(task, settings, contexts, state, folder=run_folder, processes=processes)
    mx.random.seed(derive(settings.seed, "task"))
    _build_splits(run, state, task, parts, resumed=resumed)
    # Not before: the rows may decide whether there is one.
    run.threshold = getattr(task, "threshold", None)
    loss = task.loss()
    if not callable(loss):
        raise UsageError(
            f"it gives {loss!r}", where="the task's loss()", fix="Return a loss of mxnet.gluon.loss, or a function."
        )
    run.net = build_net(task, loss, run.train, contexts, settings.seed)
    run.optimizer = optimizer
    if not settings.optimizer.decay_bias:
        for parameter in run.net.collect_params(".*bias").values():
            parameter.wd_mult = 0.0
    if processes.size > 1:
        share_weights(run, loss)
    state.step = _build_step(run, dispatch, loss, compiled=compiled, parts=parts)
    state.look = state.step.parameters.look
    state.metrics = as_metrics(task.metrics())
    state.seeder = Seeder(
        state.step,
        seed=settings.seed,
        batch_size=settings.batch_size,
        optimizer=type(optimizer).__name__.lower(),
        rank=processes.rank,
        processes=processes.size,
    )
    return Built(run, state, dispatch)


def _build_splits(run: Run, state: EngineState, task: Task, parts: Sequence[Context] | None, *, resumed: bool) -> None:
    """Gives the run its splits, with what is known of them."""
    splits = task.splits(run)
    if splits.train is None:
        raise UsageError("there are no rows to train on", where="the task's splits()")
    run.settings = with_order(run.settings, splits.train, run.processes, resumed=resumed)
    run.train = _batches(splits.train, run, task, "train", parts)
    run.validation = run.calibration = run.test = None
    for split in JUDGED:
        source = getattr(splits, split)
        if source is None:
            continue
        batches = _batches(source, run, task, split, parts)
        if batches.weighted != run.train.weighted:
            raise UsageError(
                f"the {split} rows have {'' if batches.weighted else 'no '}weights, unlike the training rows",
                where="the task's splits()",
                fix="Give all splits weights, or none; a weight of 1 changes nothing.",
            )
        setattr(run, split, batches)
    if run.train.rows is not None and run.train.rows < len(run.contexts):
        raise UsageError(
            f"{run.train.rows} training rows are fewer than the {len(run.contexts)} devices",
            where="--devices",
            fix="Use fewer devices, or more rows.",
        )
    run.files = splits.files
    run.fingerprint = splits.fingerprint or fingerprint_of_splits({split: getattr(splits, split) for split in SPLITS})
    check_slices(splits.slices, {split: found.rows for split in JUDGED if (found := getattr(run, split)) is not None})
    state.slices, state.split_version = splits.slices, splits.split_version


def _build_step(run: Run, dispatch: Dispatch, loss: Any, *, compiled: bool, parts: Sequence[Context] | None) -> Step:
    from trainer.step import make_step
    from trainer.step.distributed import SharedStep

    changing = [plugin for plugin in dispatch.plugins if type(plugin).change_symbol is not Plugin.change_symbol]

    def change(graph: Graph) -> Graph:
        for plugin in changing:
            if graph.lookups:
                raise UsageError(
                    "it changes how the net is computed, which is not possible while only some rows of an embedding "
                    "are trained",
                    where=f"plugin {plugin.name!r}",
                    fix="Update all rows (sparse_grad=False; for tables --updates dense), or leave the plugin out.",
                )
            changed = plugin.change_symbol(run, graph.training)
            graph = graph.with_training(changed.symbol, changed.arguments)
        return graph

    if run.settings.solver != OPTIMIZER:
        return solver_step(run, loss)
    step = make_step(
        run.net,
        loss,
        optimizer=run.optimizer,
        contexts=run.contexts,
        sample=run.train.sample(),
        weighted=run.train.weighted,
        compiled=compiled,
        parts=parts,
        change=change,
    )
    if changing and step.kind != "compiled":
        raise UsageError(
            f"it changes how a net is computed, but this net's step cannot be compiled: {step.why}",
            where=f"plugin {changing[0].name!r}",
            fix="Use a net and a loss of HybridBlocks that can be traced, or leave the plugin out.",
        )
    tables = step.parameters.tables
    if tables and tables.are_found_ahead and hasattr(run.train, "look_ahead"):
        run.train.look_ahead = tables.distinct
    count = len(run.contexts) * run.processes.size
    if count > 1 and step.parameters.measures and run.settings.micro_batches is None:
        log.warning(
            "the net normalises over the batch, as BatchNorm does: each of %d parts is normalised by its own "
            "rows, and the running statistics are the mean over the parts. Results differ from those of one "
            "device, the more the smaller the parts; with --micro-batches %d one device computes the same",
            count,
            count,
        )
    return step if run.processes.size == 1 else SharedStep(step, run.processes)


def _batches(source: Any, run: Run, task: Task, split: str, parts: Sequence[Context] | None) -> Batches:
    training = split == "train"
    settings, processes = run.settings, run.processes
    size = settings.batch_size if training else task.evaluation_batch_size or settings.batch_size
    at_once = training and settings.solver != OPTIMIZER
    return as_batches(
        source,
        batch_size=all_rows(source, settings) if at_once else size,
        contexts=run.contexts if parts is None else parts,
        seed=settings.seed,
        shuffle=training and not at_once,
        split=split,
        rank=processes.rank,
        processes=processes.size,
        fixed=parts is not None,
        block_rows=settings.block_rows or 0,
        window_blocks=settings.window_blocks or 0,
        epochs=settings.epochs,
    )


def build_net(task: Task, loss: Any, train: Batches, contexts: Sequence[Any], seed: int) -> Any:
    """The net on all contexts, with every parameter initialised.

    The weights are drawn right away, with a seed of their own and one row in inference mode. With deferred
    initialisation they would depend on the random numbers drawn before the first batch. Raises UsageError if the net
    does not fit the data.
    """
    from trainer.mxnet import autograd, gluon, mx

    mx.random.seed(derive(seed, "weights"))
    net = task.net()
    if not isinstance(net, gluon.Block):
        raise UsageError(f"it gives a {type(net).__name__}, not a Gluon block", where="the task's net()")
    for block in (net, loss):
        if isinstance(block, gluon.Block):
            parameters = block.collect_params()
            for parameter in parameters.values():
                if parameter._data is None and not parameter._deferred_init:  # noqa: SLF001  no public way to ask
                    parameter.initialize(init=None, default_init=task.initializer(), ctx=list(contexts))
            parameters.reset_ctx(list(contexts))
    sample = train.sample()
    try:
        with autograd.predict_mode():
            net(*sample)
    except (mx.MXNetError, ValueError, TypeError, AssertionError) as error:
        shapes = ", ".join(str(part.shape) for part in sample)
        types = {np.dtype(parameter.dtype).name for parameter in net.collect_params().values()} - {"float32"}
        if types:
            raise UsageError(
                f"the net has parameters of type {listed(sorted(types))}, and rows come as float32",
                where="the net",
                fix="Leave net.cast out, or let the net cast its inputs.",
            ) from error
        raise UsageError(f"the net does not accept one row of the data, {shapes}: {first_line(error)}") from error
    return net
