"""A job of several real processes: what it writes and prints, how it ends, and how it goes on."""

import json
import os
import re
import shutil
import signal
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import ranks
from packages import install

from trainer import checkpoint
from trainer.state import differences

SMALL = ["--train-rows", "100", "--validation-rows", "40", "--epochs", "3", "--no-plugin", "tensorboard", "--name", "it"]
SAVING = ["--set", "checkpoint.every-steps=5", "--set", "checkpoint.keep-last=0"]


@pytest.fixture
def job(tmp_path):
    """Runs `trainer …` in several processes, with the plugin that makes trouble installed."""
    site = tmp_path / "site"
    site.mkdir()
    install(site, "trouble", {"trainer.plugins": {"trouble": "trouble:Trouble"}})
    shutil.copy(Path(__file__).parents[1] / "support" / "trouble" / "trouble.py", site)

    def run(number, *arguments, trouble="", **more):
        path = os.pathsep.join([str(site), *([os.environ["PYTHONPATH"]] if "PYTHONPATH" in os.environ else [])])
        env = {"PYTHONPATH": path, "TROUBLE": trouble, "COLUMNS": "200", "TERM": "dumb", **more}
        if number == 0:
            return ranks.alone("-m", "trainer", *arguments, cwd=tmp_path, env=env)
        return ranks.trainer(number, *arguments, cwd=tmp_path, **env)

    run.site = site
    run.folder = tmp_path / "runs" / "logreg" / "it"
    return run


def record(job):
    return json.loads((job.folder / "run.json").read_text(encoding="utf-8"))


def final(job, folder=None):
    return checkpoint.complete(folder or job.folder)[0].read()


def train(job, number, what, *more, at=7, trouble="yes"):
    sets = ["--plugin", "trouble", "--set", f"trouble.what={what}", "--set", f"trouble.at={at}"]
    return job(number, "run", "logreg", *SMALL, *SAVING, *sets, *more, trouble=trouble)


def resumed(job, number, *more):
    """The run, gone on with, and the same without trouble: (state, state)."""
    done = job(number, "resume", str(job.folder), *more)
    assert done.returncode == 0, done.stdout + done.stderr
    broken = final(job)
    kept = job.folder.rename(job.folder.with_name("broken"))
    assert train(job, number, "raise", trouble="").returncode == 0
    assert record(job)["status"] == "finished"
    assert kept.exists()
    return broken, final(job)


def test_one_process_writes_and_prints_for_all(job, tmp_path):
    done = job(2, "run", "logreg", *SMALL, *SAVING, "--plugin", "stop-on-non-finite")
    assert (done.returncode, done.stderr) == (0, "")
    assert [line.split()[0] for line in done.stdout.splitlines() if line.startswith("epoch ")] == ["epoch"] * 3
    assert done.stdout.count("finished after 3 epochs") == 1
    assert "compiled step on cpu(0) in the first of 2 processes" in done.stdout
    assert [path.name for path in (tmp_path / "runs" / "logreg").iterdir()] == ["it"]
    assert (record(job)["status"], record(job)["processes"]) == ("finished", 2)
    lines = [json.loads(line) for line in (job.folder / "metrics.jsonl").read_text().splitlines()]
    assert [line["epoch"] for line in lines if line["event"] == "epoch"] == [1, 2, 3]


def test_a_process_that_is_the_only_one_needs_no_mpi(job):
    broken_mpi(job)
    done = job(1, "run", "logreg", *SMALL)
    assert (done.returncode, done.stderr) == (0, "")
    assert record(job)["processes"] == 1


def broken_mpi(job):
    (job.site / "mpi4py").mkdir()
    (job.site / "mpi4py" / "__init__.py").write_text("raise ImportError('not here')\n")


def test_a_missing_extra_is_told_once(job):
    broken_mpi(job)
    done = job(2, "run", "logreg", *SMALL)
    assert done.returncode == 2
    assert ranks.said(done) == [
        "error: mpirun started 2 processes: they need MPI to train together, which is not installed. "
        'pip install "gluon-trainer[mpi]" on every machine.'
    ]
    assert not job.folder.exists()


def test_a_mistake_of_all_processes_is_told_once_and_as_if_there_were_one(job):
    done = job(2, "run", "logreg", "--epochs", "many")
    assert done.returncode == 2
    assert len(ranks.said(done)) == 1
    done = job(2, "run", "logreg", *SMALL, "--set", "optimizer.momentum=much", "--set", "optimizer.name=sgd")
    assert done.returncode == 2
    assert ranks.said(done) == ["error: --set optimizer: 'much' does not fit 'momentum': it should be a number"]
    assert not job.folder.exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("what", "code", "text"),
    [
        ("raise", 1, "error: rank 1 on .*: plugin 'trouble' in on_batch_end at epoch 1, step 7 raised RuntimeError: so"),
        ("misuse", 2, "error: rank 1 on .*: that is wrong. Do it right."),
        ("exit", 3, ""),
    ],
)
def test_a_process_that_fails_ends_all_and_is_named_and_resuming_is_exact(job, what, code, text):
    done = train(job, 2, what)
    said = ranks.said(done)
    assert done.returncode == code, done.stderr
    assert len([line for line in said if re.match(text or "error", line)]) == (1 if text else 0), said
    if what == "misuse":
        assert not job.folder.exists()  # the mistake was made before anything was worth keeping
        return
    assert record(job)["status"] == "failed"
    assert record(job)["reason"].startswith("rank 1 on ")
    broken, straight = resumed(job, 2)
    assert differences(broken, straight) == []


@pytest.mark.slow
@pytest.mark.parametrize("what", ["kill", "vanish"])
def test_a_process_that_is_gone_ends_all_and_is_named_and_resuming_is_exact(job, what):
    done = train(job, 2, what)
    assert done.returncode != 0
    assert "process rank 1" in done.stdout + done.stderr
    broken, straight = resumed(job, 2)
    assert differences(broken, straight) == []


@pytest.mark.slow
def test_a_process_that_does_not_come_back_is_ended_with_the_job(job):
    began = time.monotonic()
    done = train(job, 2, "hang")
    assert time.monotonic() - began < 200  # the other one sleeps for 1000 s
    assert done.returncode != 0
    assert "error: rank 1 on " in done.stderr
    assert "ends the job: others did not end" in done.stderr


@pytest.mark.slow
def test_requests_of_one_process_are_those_of_all_at_the_same_step(job):
    steps = {}
    for what in ("stop", "save", "end-epoch"):
        done = train(job, 3, what, "--set", "checkpoint.every-steps=0")
        assert (done.returncode, done.stderr) == (0, ""), done.stderr
        (decision,) = [each for each in record(job)["decisions"] if each["plugin"] == "trouble"]
        assert decision["action"] == what.replace("-", "_")
        assert decision["reason"] == "one process wants to (rank 1)"
        steps[what] = (record(job)["step"], record(job)["status"], [each.step for each in checkpoint.complete(job.folder)])
        shutil.rmtree(job.folder)
    assert steps == {
        "stop": (7, "stopped", [7]),
        "save": (30, "finished", [30, 7]),
        "end-epoch": (27, "finished", [27]),
    }


@pytest.mark.slow
def test_an_update_that_one_process_wants_to_skip_is_skipped_by_all(job):
    done = train(job, 2, "skip")
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    assert record(job)["updates"] == 29


@pytest.mark.slow
@pytest.mark.parametrize(("name", "code"), [("SIGTERM", 143), ("SIGINT", 130)])
def test_a_signal_to_one_process_ends_all_in_order_after_the_same_step(job, name, code):
    done = train(job, 2, name, "--set", "checkpoint.every-steps=0")
    assert done.returncode == code, done.stderr
    assert [line for line in ranks.said(done) if line.startswith("interrupted at epoch 1, after step 7.")]
    assert len([line for line in ranks.said(done) if "interrupted" in line]) == 1
    assert record(job)["status"] == "interrupted"
    assert [each.step for each in checkpoint.complete(job.folder)] == [7]
    broken, straight = resumed(job, 2)
    broken["run"]["metrics"], straight["run"]["metrics"] = 0, 0
    assert differences(broken["parameters"] and {**broken}, straight) == []


@pytest.mark.slow
def test_sigusr1_to_mpirun_lets_all_take_their_time_to_end(job, tmp_path):
    sets = ["--plugin", "trouble", "--set", "trouble.what=wait"]
    path = os.pathsep.join([str(job.site), os.environ.get("PYTHONPATH", "")])
    process = ranks.start(
        2, "-m", "trainer", "run", "logreg", *SMALL, *sets, cwd=tmp_path, env={"PYTHONPATH": path, "TROUBLE": "yes"}
    )
    assert process.stdout is not None
    # Rank 1 has its output closed; its note goes to nobody, so the run's folder tells that it has begun.
    until(lambda: (job.folder / "run.json").exists())
    time.sleep(1)
    process.send_signal(signal.SIGUSR1)
    done = ranks.finish(process)
    assert done.returncode == 138, done.stderr
    assert record(job)["status"] == "interrupted"
    assert [each.step for each in checkpoint.complete(job.folder)] == [record(job)["step"]]


def until(condition):
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.slow
def test_a_run_goes_on_with_another_number_of_processes(job):
    train(job, 2, "raise")
    for number in (3, 0):
        done = job(number, "resume", str(job.folder), "--steps", "20" if number else "30")
        assert done.returncode == 0, done.stderr
    several = final(job)
    job.folder.rename(job.folder.with_name("several"))
    assert train(job, 0, "raise", trouble="").returncode == 0
    one = final(job)
    assert one["run"]["step"] == several["run"]["step"] == 30
    for name, value in one["parameters"].items():
        assert np.abs(value - several["parameters"][name]).max() < 1e-6
    for name, value in one["run"]["metrics"].items():
        assert several["run"]["metrics"][name] == pytest.approx(value, rel=1e-5, abs=1e-6)


@pytest.mark.slow
def test_dropout_is_drawn_anew_in_each_process_and_a_resumed_run_is_exact(job):
    more = ["--set", "task.dropout=0.5", "--set", "batch-size=8"]
    train(job, 2, "raise", *more)
    done = job(2, "resume", str(job.folder))
    assert done.returncode == 0, done.stderr
    broken = final(job)
    job.folder.rename(job.folder.with_name("broken"))
    assert train(job, 2, "raise", *more, trouble="").returncode == 0
    assert differences(broken, final(job)) == []


@pytest.mark.slow
def test_weights_that_one_process_has_moved_are_found(job):
    done = train(job, 2, "weights")
    assert done.returncode == 1
    assert "rank 1 holds other weights than rank 0 after epoch 1" in record(job)["reason"]


DIFFERENT = """
import sys
from tiny import Tiny, settings
from trainer import Engine
from trainer.processes import connect
rank = connect().rank
case = sys.argv[1]
task = Tiny(train_rows=4)
chosen = settings(batch_size=2 + (rank if case == "batch size" else 0))
if case == "rows":
    splits = task.splits
    def other(run):
        task.train_rows = 4 + rank
        return splits(run)
    task.splits = other
if case == "net":
    from trainer._mxnet import gluon
    task.make_net = lambda: gluon.nn.Dense(1, use_bias=rank == 0)
Engine(task, chosen)
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("case", "text"),
    [
        ("batch size", "the configuration: rank 1 on .* has batch-size = 3, but rank 0 has 2"),
        ("rows", "the data and the net: rank 1 on .* has the train split's rows = 5, but rank 0 has 4"),
        ("net", "the data and the net: rank 1 on .* has the parameters' types and shapes = "),
    ],
)
def test_processes_that_see_different_things_are_told_apart(tmp_path, case, text):
    script = tmp_path / "different.py"
    script.write_text(DIFFERENT)
    done = ranks.run(2, script, case, cwd=tmp_path)
    assert done.returncode != 0
    assert len([line for line in ranks.said(done) if re.search(text, line)]) == 1, done.stderr


OWN_MASKS = """
import json, sys
import numpy as np
from nets import Given
from tiny import plugin, settings
from trainer import Arrays, Engine
from trainer._mxnet import gluon
def net():
    made = gluon.nn.HybridSequential()
    made.add(gluon.nn.Dropout(0.5), gluon.nn.Dense(1, use_bias=False, weight_initializer="one"))
    return made
seen = []
look = plugin(backward_end=lambda run: seen.append(run.outputs[0].asnumpy().tolist()))
run = Engine(Given(Arrays(np.ones((8, 64)), np.zeros((8, 1))), make_net=net), settings(batch_size=8), [look]).fit()
found = run.processes.gather(seen[0])
if run.processes.is_first:
    print(json.dumps(found))
"""


@pytest.mark.slow
def test_neighbours_draw_different_dropout_masks(tmp_path):
    script = tmp_path / "masks.py"
    script.write_text(OWN_MASKS)
    done = ranks.run(2, script, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    first, second = json.loads(done.stdout)
    assert len(first) == len(second) == 4
    assert first != second


SCRIPT = """
from trainer import fit
run = fit("logreg", epochs=1, train_rows=50, validation_rows=20, without=["progress", "tensorboard"], runs_dir=None)
if run.processes.rank == 1:
    raise RuntimeError("after the training")
import time
time.sleep(600)
"""


@pytest.mark.slow
def test_a_script_that_fails_in_one_process_ends_the_job(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    done = ranks.run(2, script, cwd=tmp_path)
    assert done.returncode != 0
    assert "RuntimeError: after the training" in done.stderr


@pytest.mark.slow
def test_check_devices_compares_processes_too(job):
    done = job(2, "check-devices", "logreg", "--devices", "cpu")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[0] == "20 steps on cpu(0) in 2 processes against cpu(0)"
    assert done.stdout.count("equal up to rounding") == 3


def test_the_python_that_runs_the_tests_has_the_launcher_beside_it():
    assert Path(ranks.mpirun()).parent == Path(sys.executable).parent
