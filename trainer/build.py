"""Builds a run: devices, data, net, step and plugins, with every check that can be made before training."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from trainer import devices
from trainer.config import options
from trainer.config.settings import Settings
from trainer.data.batches import Batches, as_batches
from trainer.dispatch import Dispatch
from trainer.errors import UsageError
from trainer.events import Phase, Plugin
from trainer.metrics import Metric, as_metric
from trainer.processes import Processes
from trainer.processes.replicas import share_weights
from trainer.run import Run
from trainer.seeds import derive
from trainer.task import Task

if TYPE_CHECKING:
    from trainer.mxnet import Context
    from trainer.step import Step
    from trainer.step.symbol import Graph

SEED_BLOCK = 256
"""Steps between two seedings of MXNet's generator, at most. One costs 1.2 ms (it seeds 1,024 generators), so every step
would be too often; but a run that goes on in the middle of a block has to draw the block's numbers again."""
SEED_WORK = 1 << 28
"""Parameters × rows in a block, at most: what some tenths of a second compute, so that going on never takes long."""


def build_run(
    task: Task,
    settings: Settings,
    plugins: Sequence[Plugin],
    *,
    run_folder: Path | None,
    compiled: bool = True,
    processes: Processes | None = None,
) -> Run:
    """Everything that training needs, ready for the first event. Raises UsageError for what the user can put right.

    Of several processes, all have to call it; those behind the first leave out the plugins that only save or report.
    """
    # Not above: importing the engine must leave open how MXNet computes, which is decided when it is imported.
    from trainer.mxnet import mx
    from trainer.step import make_step
    from trainer.step.distributed import SharedStep
    from trainer.step.micro_batches import parts_on

    processes = processes or Processes()
    # The first of several processes saves and reports for all of them.
    dispatch = Dispatch(plugins, until=None if processes.is_first else Phase.SAVE)
    options.check_instance(task, where=f"task {task.name!r}")
    task.check()
    contexts = devices.contexts(settings.devices, processes.local_rank, processes.local_size)
    fixed = None if settings.micro_batches is None else parts_on(contexts, settings.micro_batches, processes.size)
    optimizer = settings.optimizer.build()
    run = Run(task, settings, dispatch, contexts, folder=run_folder, processes=processes)
    run.threshold = getattr(task, "threshold", None)
    mx.random.seed(derive(settings.seed, "task"))
    splits = task.splits(run)
    for split in ("train", "validation", "test"):
        source = getattr(splits, split)
        if source is not None:
            batches = _batches(source, run, split, fixed)
            if run.train is not None and batches.weighted != run.train.weighted:
                raise UsageError(
                    f"the {split} rows have {'' if batches.weighted else 'no '}weights, unlike the training rows",
                    where="the task's splits()",
                    fix="Give all splits weights, or none; weights of 1 count rows as they are.",
                )
            setattr(run, split, batches)
    if run.train is None:
        raise UsageError("there are no rows to train on", where="the task's splits()")
    if run.train.rows is not None and run.train.rows < len(contexts):
        raise UsageError(
            f"{run.train.rows} training rows are fewer than the {len(contexts)} devices",
            where="--devices",
            fix="Use fewer devices, or more rows.",
        )
    loss = task.loss()
    run.net = build_net(task, loss, run.train, contexts, settings.seed)
    run.optimizer = optimizer
    if processes.size > 1:
        share_weights(run, loss)
    step: Step = make_step(
        run.net,
        loss,
        optimizer=optimizer,
        contexts=contexts,
        sample=run.train.sample(),
        weighted=run.train.weighted,
        compiled=compiled,
        parts=fixed,
        change=lambda graph: _changed(graph, run),
    )
    changing = _changing(run)
    if changing and step.kind != "compiled":
        raise UsageError(
            f"it changes how a net is computed, and this one's step cannot be compiled: {step.why}",
            where=f"plugin {changing[0].name!r}",
            fix="Use a net and a loss of HybridBlocks that can be traced, or leave the plugin out.",
        )
    run.engine_step = step if processes.size == 1 else SharedStep(step, processes)
    return run


def _changing(run: Run) -> list[Plugin]:
    """The plugins that change the symbol that is trained, in their order."""
    return [plugin for plugin in run.dispatch.plugins if type(plugin).change_symbol is not Plugin.change_symbol]


def _changed(graph: Graph, run: Run) -> Graph:
    for plugin in _changing(run):
        changed = plugin.change_symbol(run, graph.training)
        graph = graph.with_training(changed.symbol, changed.arguments)
    return graph


def _batches(source: Any, run: Run, split: str, fixed: Sequence[Context] | None) -> Batches:
    training = split == "train"
    task, settings, processes = run.task, run.settings, run.processes
    size = settings.batch_size if training else task.evaluation_batch_size or settings.batch_size
    return as_batches(
        source,
        batch_size=size,
        contexts=run.contexts if fixed is None else fixed,
        seed=settings.seed,
        shuffle=training,
        split=split,
        rank=processes.rank,
        processes=processes.size,
        fixed=fixed is not None,
    )


def build_net(task: Task, loss: Any, train: Batches, contexts: Sequence[Any], seed: int) -> Any:
    """The net on all contexts, with every parameter initialised.

    Its own seed, and one row in inference mode right away, make the initial weights a function of the seed alone: left
    to the first batch, they would depend on whatever drew random numbers before it. Raises UsageError where the net
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
        first_line = next(iter(str(error).splitlines()), "")
        raise UsageError(f"the net does not take one row of the data, {shapes}: {first_line}") from error
    return net


def build_metrics(task: Task) -> list[Metric]:
    """The task's metrics, whatever form they have."""
    return [as_metric(metric) for metric in task.metrics()]


class Seeder:
    """Seeds MXNet's generator from (seed, step) for nets that draw random numbers in training, such as dropout.

    The state of MXNet's generator can be set by a seed only, never read; so it is seeded anew at the start of every
    block of steps, which makes the numbers of a block a function of the seed and the position. A block ends after
    SEED_BLOCK steps or SEED_WORK, with the epoch, and where an evaluation that draws numbers too comes in between. An
    optimizer that draws some itself has blocks of one step.

    Of several processes each draws other numbers for its own rows, but the same ones for the update, which is the same
    in all.
    """

    def __init__(self, run: Run) -> None:
        self._run = run
        step = run.engine_step
        assert step is not None  # noqa: S101
        self._draws = step.draws_random_numbers
        work = run.settings.batch_size * sum(int(np.prod(each.shape)) for each in step.parameters.all)
        self._block = max(1, min(SEED_BLOCK, SEED_WORK // max(work, 1)))
        self._position: tuple[int, ...] = (run.processes.rank,) if run.processes.rank and self._draws else ()
        self.before_update_too = False
        """Whether `before_update` has to be called before each update."""
        if type(run.optimizer).__name__.lower() in DRAWING_OPTIMIZERS:
            self.before_update_too = run.processes.size > 1 and self._draws
            self._draws, self._block = True, 1

    def before_step(self) -> None:
        """Called before each step, when `run.step` is its number already."""
        run = self._run
        if self._draws and (run.seeded_at is None or run.step - run.seeded_at >= self._block):
            self._seed(run.step)

    def before_update(self) -> None:
        """Seeds all processes alike, for an optimizer that draws random numbers."""
        from trainer.mxnet import mx

        mx.random.seed(derive(self._run.settings.seed, "update", self._run.step))

    def replay(self) -> None:
        """Brings the generator of a resumed run to where it was, by computing the steps of its block once more.

        Spoils weights' gradients, running statistics and losses: to be called before those are restored.
        """
        run, step = self._run, self._run.engine_step
        assert run.train is not None and step is not None  # noqa: S101, PT018
        if not self._draws or run.seeded_at is None or self._block == 1 or not run.within_epoch:
            return
        count = run.step - run.seeded_at + 1
        self._seed(run.seeded_at)
        for batch in islice(run.train.epoch(run.epoch, skip=run.step_in_epoch - count), count):
            step.forward_backward(batch)

    def _seed(self, step: int) -> None:
        from trainer.mxnet import mx

        self._run.seeded_at = step
        mx.random.seed(derive(self._run.settings.seed, "step", step, *self._position))


DRAWING_OPTIMIZERS = frozenset({"sgld"})
"""Optimizers whose updates draw random numbers."""
