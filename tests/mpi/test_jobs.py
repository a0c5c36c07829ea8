"""A job of several real processes: what it writes and prints, how it ends, and how it is resumed."""

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

from trainer.runs import checkpoint
from trainer.runs.state import differences

pytestmark = pytest.mark.skipif(ranks.is_missing(), reason="Open MPI has wheels for Linux alone")
SMALL = ["--train-rows", "100", "--validation-rows", "40", "--epochs", "3", "--name", "it"]
SMALL += ["--no-plugin", "tensorboard"]
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
    return checkpoint.complete_checkpoints(folder or job.folder)[0].read()


def train(job, number, what, *more, at=7, trouble="yes"):
    sets = ["--plugin", "trouble", "--set", f"trouble.what={what}", "--set", f"trouble.at={at}"]
    return job(number, "run", "logreg", *SMALL, *SAVING, *sets, *more, trouble=trouble)


def apart(first, second):
    """Where two states differ, beside what tells which options made trouble, and the lengths of times in the log."""
    found = differences(first, second)
    return [path for path in found if not path.startswith(("made_by", "plugins/trouble", "plugins/metrics-log"))]


@pytest.fixture(scope="module")
def straight(tmp_path_factory):
    """The last state of the same run on two processes without any trouble."""
    folder = tmp_path_factory.mktemp("straight")
    done = ranks.trainer(2, "run", "logreg", *SMALL, *SAVING, cwd=folder)
    assert done.returncode == 0, done.stderr
    return checkpoint.complete_checkpoints(folder / "runs" / "logreg" / "it")[0].read()


def resumed(job, number, *more):
    """The last state of the run, gone on with."""
    done = job(number, "resume", str(job.folder), *more)
    assert done.returncode == 0, done.stdout + done.stderr
    assert record(job)["status"] in ("finished", "stopped")
    return final(job)


def test_one_process_writes_and_prints_for_all(job, tmp_path):
    done = job(2, "run", "logreg", *SMALL, *SAVING, "--plugin", "stop-on-non-finite")
    assert (done.returncode, done.stderr) == (0, "")
    assert [line.split()[0] for line in done.stdout.splitlines() if line.startswith("epoch ")] == ["epoch"] * 3
    assert done.stdout.count("finished after 3 epochs") == 1
    assert ", rank 0 of 2 processes" in done.stdout
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
        "error: mpirun started 2 processes: they need mpi4py to train together, and it is not installed. "
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
def test_a_process_that_raises_ends_all_and_is_named_and_resuming_is_exact(job, straight):
    done = train(job, 2, "raise")
    assert done.returncode == 1, done.stderr
    text = "rank 1 on .*: plugin 'trouble' in on_batch_end at epoch 1, step 7 raised RuntimeError: something broke"
    errors = [line for line in ranks.said(done) if line.startswith("error")]
    assert len(errors) == 1
    assert re.fullmatch(f"error: {text}", errors[0])
    assert record(job)["status"] == "failed"
    assert re.fullmatch(text.replace(": plugin", ": PluginError: plugin"), record(job)["reason"])
    # With another number of processes the rest of it equals this up to rounding, with the same one to the bit.
    shutil.copytree(job.folder, job.folder.with_name("copy"))
    assert apart(resumed(job, 2), straight) == []
    shutil.rmtree(job.folder)
    job.folder.with_name("copy").rename(job.folder)
    resumed(job, 3, "--steps", "20")
    other = resumed(job, 0, "--steps", "30")
    assert other["run"]["step"] == straight["run"]["step"] == 30
    for name, value in straight["parameters"].items():
        assert np.abs(value - other["parameters"][name]).max() < 1e-6
    for name, value in straight["run"]["metrics"].items():
        assert other["run"]["metrics"][name] == pytest.approx(value, rel=1e-5, abs=1e-6)


@pytest.mark.slow
def test_a_mistake_that_one_process_finds_is_told_with_its_name(job):
    done = train(job, 2, "misuse")
    assert done.returncode == 2
    (line,) = [line for line in ranks.said(done) if line.startswith("error")]
    assert re.fullmatch("error: rank 1 on .*: that is wrong. Do it right.", line)
    assert not job.folder.exists()  # it was found in the first epoch, before anything was worth keeping


@pytest.mark.slow
@pytest.mark.parametrize(("what", "text"), [("exit", "error: rank 1 on "), ("vanish", "process rank 1")])
def test_a_process_that_leaves_ends_all_and_is_named(job, what, text):
    done = train(job, 2, what)
    assert done.returncode != 0
    assert text in done.stderr


@pytest.mark.slow
def test_a_process_that_is_killed_ends_all_and_is_named_and_resuming_with_dropout_is_exact(job):
    more = ["--set", "task.dropout=0.5", "--set", "batch-size=8"]
    done = train(job, 2, "kill", *more)
    assert done.returncode == 137
    assert "process rank 1" in done.stderr
    killed = resumed(job, 2)
    job.folder.rename(job.folder.with_name("killed"))
    assert train(job, 2, "kill", *more, trouble="").returncode == 0
    assert apart(killed, final(job)) == []


@pytest.mark.slow
def test_a_process_that_hangs_is_named_and_ends_the_job_and_resuming_is_exact(job, straight):
    done = train(job, 2, "SIGSTOP", "--rank-timeout", "5")
    assert done.returncode != 0
    assert "error: rank 0 on" in done.stderr
    assert re.search(r"rank 1 on \S+ has given no sign of life for 5 s while others waited", done.stderr)
    assert record(job)["status"] == "failed"
    assert apart(resumed(job, 2), straight) == []


@pytest.mark.slow
def test_a_process_that_is_busy_is_not_lost(job):
    # The shortest limit that there is, which a thread outlasts on a machine with too much to do.
    done = train(job, 2, "wait", "--rank-timeout", "5")
    assert done.returncode == 0, done.stderr
    assert "waiting for other processes for 5 s; all are alive, so one of them is busy" in done.stderr


@pytest.mark.slow
def test_a_process_that_does_not_come_back_is_ended_with_the_job(job):
    began = time.monotonic()
    done = train(job, 2, "hang")
    assert time.monotonic() - began < 200  # the other one would sleep for 1000 s
    assert done.returncode != 0
    assert "error: rank 1 on " in done.stderr
    assert "ends the job: others did not end" in done.stderr


@pytest.mark.slow
def test_requests_of_one_process_are_those_of_all_at_the_same_step(job):
    asked = {"save": 5, "end-epoch": 7, "skip": 9, "evaluate": 12, "stop": 15}
    given = []
    for what, at in asked.items():
        given += [
            "--plugin",
            f"trouble@{what}",
            "--set",
            f"trouble@{what}.what={what}",
            "--set",
            f"trouble@{what}.at={at}",
        ]
    given += ["--set", "trouble@save.rank=2"]
    done = job(3, "run", "logreg", *SMALL, "--set", "checkpoint.keep-last=0", *given, trouble="yes")
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    found = record(job)
    assert (found["status"], found["step"], found["updates"], found["epoch"]) == ("stopped", 15, 14, 2)
    assert [each.step for each in checkpoint.complete_checkpoints(job.folder)] == [15, 5]
    made = {each["plugin"]: each for each in found["decisions"] if each["plugin"].startswith("trouble")}
    assert {name.partition("@")[2]: each["step"] for name, each in made.items()} == asked
    assert found["reason"] == "one process wants to (rank 1)"
    assert made["trouble@save"]["reason"] == "one process wants to (rank 2)"


@pytest.mark.slow
def test_a_signal_to_one_process_ends_all_in_order_after_the_same_step(job, straight):
    done = train(job, 2, "SIGTERM", "--set", "checkpoint.every-steps=0")
    assert done.returncode == 143, done.stderr
    (line,) = [line for line in ranks.said(done) if "interrupted" in line]
    assert line.startswith("interrupted at epoch 1, after step 7. Resume with: trainer resume ")
    assert record(job)["status"] == "interrupted"
    assert [each.step for each in checkpoint.complete_checkpoints(job.folder)] == [7]
    assert apart(resumed(job, 2), straight) == []


@pytest.mark.slow
def test_sigusr1_to_mpirun_lets_all_take_their_time_to_end(job, tmp_path):
    sets = ["--plugin", "trouble", "--set", "trouble.what=wait"]
    path = os.pathsep.join([str(job.site), os.environ.get("PYTHONPATH", "")])
    process = ranks.start(
        2, "-m", "trainer", "run", "logreg", *SMALL, *sets, cwd=tmp_path, env={"PYTHONPATH": path, "TROUBLE": "yes"}
    )
    # The process that waits prints to nobody, so the run's folder tells that training has begun.
    until((job.folder / "run.json").exists)
    time.sleep(1)
    process.send_signal(signal.SIGUSR1)
    done = ranks.finish(process)
    assert done.returncode == 138, done.stderr
    assert record(job)["status"] == "interrupted"
    assert [each.step for each in checkpoint.complete_checkpoints(job.folder)] == [record(job)["step"]]


def until(condition):
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.slow
def test_weights_that_one_process_has_moved_are_found(job):
    done = train(job, 2, "weights")
    assert done.returncode == 1
    assert "the weights of rank 1 differ from rank 0's after epoch 1" in record(job)["reason"]


DIFFERENT = """
from tiny import Tiny, settings
from trainer import Engine, UsageError
from trainer.mxnet import gluon
from trainer.processes import connect
rank = connect().rank

class Rows(Tiny):
    def splits(self, run):
        self.train_rows += rank
        return super().splits(run)

class Values(Tiny):
    def splits(self, run):
        splits = super().splits(run)
        splits.train.labels[-1] += rank
        return splits

class Net(Tiny):
    def net(self):
        return gluon.nn.Dense(1, use_bias=rank == 0)

for task, size in ((Tiny(), 2 + rank), (Rows(), 2), (Values(), 2), (Net(), 2)):
    try:
        Engine(task, settings(batch_size=size))
    except UsageError as error:
        if rank == 0:
            print(error)
run = Engine(Tiny(), settings()).fit()
if rank == 0:
    print(run.status)
"""


@pytest.mark.slow
def test_processes_that_see_different_things_are_told_apart_and_a_script_may_continue(tmp_path):
    script = tmp_path / "different.py"
    script.write_text(DIFFERENT)
    done = ranks.run(2, script, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    expected = [
        "the configuration: rank 1 on .* has batch-size = 3, but rank 0 has 2. Start every process with the same",
        "the data and the net: rank 1 on .* has the train split's rows = 5, but rank 0 has 4.",
        "the data and the net: rank 1 on .* has the checksum of train's column y = '.*', but rank 0 has '",
        "the data and the net: rank 1 on .* has the parameters' types and shapes = ",
        "finished",
    ]
    assert len(lines) == len(expected)
    assert all(re.match(text, line) for text, line in zip(expected, lines, strict=True))


OWN_MASKS = """
import json, sys
import numpy as np
from nets import Given
from tiny import plugin, settings
from trainer import Arrays, Engine
from trainer.mxnet import gluon
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
    assert done.stdout.splitlines()[0] == "20 steps on cpu(0) in 2 processes, compared with cpu(0)"
    assert done.stdout.count("equal up to rounding") == 3


def test_processes_share_one_cache_and_each_reads_its_rows_from_it(job, tmp_path):
    generator = np.random.default_rng(0)
    x = generator.normal(size=(300, 3))
    rows = [f"{a:.3f},{b:.3f},{c:.3f},{'yes' if a + b + c > 0 else 'no'}" for a, b, c in x]
    (tmp_path / "t.csv").write_text("\n".join(["a,b,c,y", *rows]), encoding="utf-8")
    arguments = ["run", "logreg", "--data", "t.csv", "--label", "y", "--hidden", "", "--batch-size", "20"]
    arguments += ["--epochs", "2", "--order", "windows", "--block-rows", "8", "--window-blocks", "5"]
    found = {}
    for name, number, cache in (("cached", 2, "on"), ("held", 2, "off"), ("alone", 0, "on")):
        env = {"TRAINER_CACHE_DIR": str(tmp_path / name)}
        done = job(number, *arguments, "--cache", cache, "--name", name, "--no-plugin", "tensorboard", **env)
        assert done.returncode == 0, done.stderr
        found[name] = final(job, job.folder.with_name(name))
    assert len(list((tmp_path / "cached").rglob("train.arrow"))) == 1
    assert not (tmp_path / "held").exists()
    for place, value in found["cached"]["parameters"].items():
        np.testing.assert_array_equal(value, found["held"]["parameters"][place])
        assert np.abs(value - found["alone"]["parameters"][place]).max() < 1e-6


def test_the_python_that_runs_the_tests_has_the_launcher_beside_it():
    assert Path(ranks.mpirun()).parent == Path(sys.executable).parent
