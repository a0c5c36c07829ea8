"""trainer resume and trainer runs list, on real processes that are really killed."""

import importlib
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from packages import environment

from trainer.runs import checkpoint, split_rows
from trainer.runs.state import differences

KILLING = str(Path(__file__).parents[1] / "support" / "killing")
QUICK = ["--train-rows", "100", "--validation-rows", "50", "--no-plugin", "progress"]
# What this process computes with: some runs are begun in one of their own and continued in this one.
QUICK += ["--onednn", "on", "--threads", "1"]
SAVING = ["--set", "checkpoint.every-minutes=0"]


def process(folder, *arguments, kill_at="", **values):
    """Runs a program in a process of its own, which may kill itself; returns its exit code and what it said."""
    env = {**environment(), "KILL_AT": kill_at}
    env["PYTHONPATH"] = os.pathsep.join([KILLING, env["PYTHONPATH"]]) if env.get("PYTHONPATH") else KILLING
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        env=env,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        **values,
    )
    return done.returncode, done.stdout + done.stderr


def logged_metrics(run):
    """The metrics log without its clock."""
    entries = [json.loads(line) for line in (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    return [{key: value for key, value in entry.items() if key != "time"} for entry in entries]


def last_state(run):
    """The state at the end of training, without the logs' names and sizes, which depend on the clock."""
    state = checkpoint.complete_checkpoints(run)[0].read()
    for name in ("metrics-log", "tensorboard"):
        state["plugins"].pop(name, None)
    return state


def points(run):
    """What TensorBoard sees of a run."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    seen = EventAccumulator(str(run / "tensorboard"), size_guidance={"scalars": 0})
    seen.Reload()
    return {tag: [(point.step, point.value) for point in seen.Scalars(tag)] for tag in seen.Tags()["scalars"]}


def status(run):
    return json.loads((run / "run.json").read_text())["status"]


def duration(run):
    """How many seconds a run took, from its start to its end."""
    record = json.loads((run / "run.json").read_text())
    return record["ended"] - record["started"]


def moments(count, *, files, seconds, seed):
    """Random moments of both kinds in turn."""
    generator = random.Random(seed)
    return [
        f"files:{generator.randint(4, files)}" if number % 2 else f"seconds:{generator.uniform(0, seconds):.3f}"
        for number in range(count)
    ]


def killed_again_and_again(tmp_path, first, again, kills):
    """Runs a program, kills and resumes it several times, then runs it to the end. Returns the number of kills."""
    count = 0
    arguments = first
    for moment in kills:
        code, said = process(tmp_path, *arguments, kill_at=moment)
        assert code in (0, -signal.SIGKILL), said
        if code == 0:
            break
        count += 1
        # A run that was killed before its folder had its name is begun anew; what is there is gone on with.
        arguments = again if list(tmp_path.glob("runs/*/cut/config.toml")) else first
    else:
        code, said = process(tmp_path, *arguments)
        assert code == 0, said
    return count


@pytest.mark.slow
def test_a_run_that_is_killed_at_ten_moments_equals_one_that_never_was(tmp_path):
    """Dropout, Adam, a schedule, early stopping, the threshold tuner and gradient accumulation are on."""
    options = ["--epochs", "250", "--train-rows", "300", "--validation-rows", "60", "--dropout", "0.3", "--optimizer"]
    options += ["adam", "--learning-rate", "0.002", "--no-plugin", "progress", *SAVING]
    options += ["--plugin", "lr-schedule", "--set", "lr-schedule.warmup=2", "--plugin", "gradient-accumulation"]
    options += ["--plugin", "early-stopping", "--set", "early-stopping.patience=300"]
    options += ["--set", "early-stopping.restore-best=true", "--set", "checkpoint.every-steps=41"]
    run = ["-m", "trainer", "run", "logreg", *options]
    assert process(tmp_path, *run, "--name", "whole")[0] == 0
    # Early enough in each process that ten of them do not come to the end, however fast the machine is.
    kills = moments(10, files=80, seconds=duration(tmp_path / "runs" / "logreg" / "whole") / 14, seed=20)
    count = killed_again_and_again(
        tmp_path, [*run, "--name", "cut"], ["-m", "trainer", "resume", "runs/logreg/cut"], kills
    )
    assert count == 10
    whole, cut = (tmp_path / "runs" / "logreg" / name for name in ("whole", "cut"))
    assert differences(last_state(whole), last_state(cut)) == []
    assert logged_metrics(whole) == logged_metrics(cut)
    assert (whole / "metrics.csv").read_text() == (cut / "metrics.csv").read_text()
    assert points(whole) == points(cut)
    assert status(whole) == status(cut)


PROGRAM = """
import sys
from pathlib import Path
sys.path.insert(0, {support!r})
from nets import Given, dense, regression
from trainer import fit, resume

def task():
    rows = regression(200), regression(50, seed=1)
    return Given(*rows, make_net=lambda: dense(8, 4, dropout=0.2, norm=True))

if sys.argv[1] == "whole" or not Path("runs/given/cut/config.toml").exists():
    fit(task(), epochs=20, batch_size=9, name=sys.argv[1], plugins=["metrics-log", "checkpoint"], learning_rate=0.01,
        config="saving.toml")
else:
    resume("runs/given/cut", task=task())
"""


@pytest.mark.slow
def test_a_net_with_running_statistics_survives_being_killed_too(tmp_path):
    support = str(Path(__file__).parents[1] / "support")
    (tmp_path / "program.py").write_text(PROGRAM.format(support=support))
    (tmp_path / "saving.toml").write_text("[plugins.metrics-log]\n[plugins.checkpoint]\nevery-steps = 13\n")
    code, said = process(tmp_path, "program.py", "whole")
    assert code == 0, said
    cut, seconds = ["program.py", "cut"], duration(tmp_path / "runs" / "given" / "whole") / 5
    assert killed_again_and_again(tmp_path, cut, cut, moments(4, files=120, seconds=seconds, seed=6)) >= 2
    whole, cut = (tmp_path / "runs" / "given" / name for name in ("whole", "cut"))
    assert differences(last_state(whole), last_state(cut)) == []
    assert logged_metrics(whole) == logged_metrics(cut)


# ---- signals ---------------------------------------------------------------------------------------------------------


def started(tmp_path, *arguments):
    """A training process, when its log has its first line."""
    training = subprocess.Popen(
        [sys.executable, "-m", "trainer", "run", "logreg", "--name", "run", *QUICK, *SAVING, *arguments],
        cwd=tmp_path,
        env=environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    give_up = time.monotonic() + 60
    log = tmp_path / "runs" / "logreg" / "run" / "metrics.jsonl"
    while not (log.exists() and log.stat().st_size):
        assert training.poll() is None
        assert time.monotonic() < give_up
        time.sleep(0.02)
    return training


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGUSR1, 138)])
def test_a_signal_saves_tells_how_to_continue_and_loses_nothing(tmp_path, command, number, code):
    training = started(tmp_path, "--epochs", "600")
    training.send_signal(number)
    _, err = training.communicate(timeout=60)
    run = tmp_path / "runs" / "logreg" / "run"
    assert training.returncode == code
    assert err.startswith("interrupted at epoch ")
    assert err.endswith("Resume with: trainer resume runs/logreg/run\n")
    assert len(err.splitlines()) == 1
    record = json.loads((run / "run.json").read_text())
    assert (record["status"], record["reason"]) == ("interrupted", f"interrupted by {number.name}")
    assert record["ended"] is not None
    assert logged_metrics(run)[-1]["status"] == "interrupted"
    saved = checkpoint.complete_checkpoints(run)[0]
    assert (saved.is_exact, saved.step) == (True, record["step"])
    if number == signal.SIGTERM:
        return  # that such a run continues to the same metrics is proved below, in the midst of a save
    assert command("resume", "runs/logreg/run")[0] == 0
    assert command("run", "logreg", "--name", "whole", "--epochs", "600", *QUICK, *SAVING)[0] == 0
    assert logged_metrics(run) == logged_metrics(run.parent / "whole")


def test_a_signal_during_a_save_or_an_evaluation_loses_nothing(tmp_path, command):
    """Every step is saved and evaluated, so that is where a signal comes."""
    training = started(tmp_path, "--epochs", "40", "--set", "checkpoint.every-steps=1")
    training.send_signal(signal.SIGTERM)
    training.communicate(timeout=60)
    assert training.returncode == 143
    run = tmp_path / "runs" / "logreg" / "run"
    assert command("resume", "runs/logreg/run")[0] == 0
    assert command("run", "logreg", "--name", "whole", "--epochs", "40", *QUICK, *SAVING)[0] == 0
    assert logged_metrics(run) == logged_metrics(run.parent / "whole")


# ---- what a user sees ------------------------------------------------------------------------------------------------


@pytest.fixture
def finished(command):
    """The folder of a run of three epochs with checkpoints of each."""
    code, _, err = command(
        *("run", "logreg", "--name", "run", "--epochs", "3", *QUICK, *SAVING),
        *("--set", "checkpoint.every-epochs=1", "--set", "checkpoint.keep-last=0"),
    )
    assert code == 0, err
    return Path("runs/logreg/run")


def test_a_finished_run_can_be_given_more_epochs(command, finished):
    code, out, err = command("resume", finished, "--epochs", "5")
    assert (code, err) == (0, "")
    assert out.splitlines()[0] == "resuming from step-00000030-epoch-0003: epoch 3, step 30"
    assert "finished after 5 epochs, 50 steps" in out
    assert command("run", "logreg", "--name", "whole", "--epochs", "5", *QUICK)[0] == 0
    assert logged_metrics(finished) == logged_metrics(finished.parent / "whole")
    # The configuration says what was trained in the end.
    assert command("run", "logreg", "--name", "again", "--config", finished / "config.toml")[0] == 0
    assert logged_metrics(finished) == logged_metrics(finished.parent / "again")


def test_a_run_can_be_named_by_its_name_alone(command, finished):
    assert command("resume", "run", "--epochs", "4")[0] == 0


def test_a_stopped_run_continues_with_more_steps(command):
    assert command("run", "logreg", "--name", "run", "--epochs", "3", "--steps", "14", *QUICK, *SAVING)[0] == 0
    code, _, err = command("resume", "run")
    assert (code, err) == (
        2,
        "error: the run has stopped (it has reached its limit of 14 steps). Pass --epochs with more than 3, or "
        "--steps with more than 14, to train on.\n",
    )
    code, out, _ = command("resume", "run", "--steps", "20")
    assert code == 0
    # The epoch that the end came in was evaluated, and stays as short as it is.
    assert "stopped after 3 epochs, 20 steps" in out


def test_an_older_checkpoint_can_be_gone_on_from(command, finished):
    code, out, _ = command("resume", finished, "--from", "step-00000010-epoch-0001", "--epochs", "4")
    assert code == 0
    assert out.splitlines()[0] == "resuming from step-00000010-epoch-0001: epoch 1, step 10"
    assert [line["epoch"] for line in logged_metrics(finished)] == [1, 2, 3, 4, 4]


def test_a_checkpoint_can_be_given_by_its_path_and_an_abandoned_one_is_refused_with_the_reason(command, finished):
    checkpoints = finished / "checkpoints"
    older, newest = checkpoints / "step-00000010-epoch-0001", checkpoints / "step-00000030-epoch-0003"
    code, out, _ = command("resume", "run", "--from", f"{older}/", "--epochs", "2")
    assert code == 0
    assert out.splitlines()[0] == "resuming from step-00000010-epoch-0001: epoch 1, step 10"
    gone = checkpoints / "abandoned" / newest.name
    for given in (newest.name, newest.resolve(), gone):
        code, _, err = command("resume", "run", "--from", given, "--epochs", "5")
        assert code == 2
        assert err.startswith(
            f"error: --from: {newest.name} was abandoned when the run was resumed from an older check"
        )
        assert f"train those steps again. Its weights are in {gone / 'arrays.npz'}.\n" in err


def test_a_path_elsewhere_is_not_a_checkpoint_of_the_run(command, finished):
    newest = finished / "checkpoints" / "step-00000030-epoch-0003"
    other = finished.with_name("other")
    shutil.copytree(finished, other)
    code, _, err = command("resume", "other", "--from", newest, "--epochs", "5")
    assert (code, err) == (
        2,
        f"error: --from: {newest} is not a checkpoint of the run {other}. It belongs to another run: trainer resume "
        f"{finished} --from {newest.name}.\n",
    )
    code, _, err = command("resume", "other", "--from", "runs", "--epochs", "5")
    assert (code, "runs is not a checkpoint of the run" in err) == (2, True)
    (newest / "manifest.json").write_text("{")
    code, _, err = command("resume", "run", "--from", newest, "--epochs", "5")
    assert code == 2
    assert "manifest.json is damaged: it is not JSON" in err
    assert "There are: step-00000020-epoch-0002" in err


def test_a_resumed_run_takes_a_limit_for_lost_processes_and_keeps_it(command, finished):
    code, _, err = command("resume", "run", "--rank-timeout", "4", "--epochs", "4")
    assert (code, "--rank-timeout: '4' does not fit" in err) == (2, True), err
    assert command("resume", "run", "--rank-timeout", "30", "--epochs", "4")[0] == 0
    assert "rank-timeout = 30.0" in (finished / "config.toml").read_text()


@pytest.mark.parametrize("when", ["read", "lock", "open"])
def test_a_run_whose_folder_disappears_while_it_resumes_is_one_message_and_exit_code_1(
    command, finished, monkeypatch, when
):
    place, name = {
        "read": ("trainer.launch.resume", "read_config"),
        "lock": ("trainer.launch.resume", "_check_end"),
        "open": ("trainer.runs.folder", "remove_leftovers"),
    }[when]
    module = importlib.import_module(place)
    true = getattr(module, name)

    def lose(*given, **more):
        if when == "lock":
            true(*given, **more)
        shutil.rmtree(finished)
        return None if when == "lock" else true(*given, **more)

    monkeypatch.setattr(module, name, lose)
    code, _, err = command("resume", "run", "--epochs", "4")
    path = finished.resolve()
    gone = f"error: the run failed: the run's folder {path} is gone: it was deleted or moved while the run was using it"
    assert (code, err.splitlines()) == (1, [gone])
    assert not finished.exists()


def test_a_run_without_a_checkpoint_starts_over_in_its_folder(command):
    assert command("run", "logreg", "--name", "run", "--epochs", "2", "--no-plugin", "checkpoint", *QUICK)[0] == 0
    path = Path("runs/logreg/run/run.json")
    path.write_text(path.read_text().replace('"finished"', '"running"'))
    before = logged_metrics(path.parent)
    code, out, _ = command("resume", "run")
    assert code == 0
    assert out.splitlines()[0] == "there is no checkpoint, so the run starts from the beginning"
    assert logged_metrics(path.parent) == before


def test_a_table_that_has_changed_is_refused_with_what_changed_unless_it_is_accepted(command, tmp_path):
    table = tmp_path / "t.csv"
    rows = [f"{number % 7},{number % 5},{int(number % 7 > number % 5)}" for number in range(80)]
    table.write_text("\n".join(["a,b,y", *rows]))
    options = ["--data", table, "--label", "y", "--group", "a", "--test-split", "0", "--epochs", "1"]
    code, _, err = command("run", "logreg", "--name", "run", *options, "--plugin", "checkpoint")
    assert (code, err) == (0, "")
    held_out = split_rows("runs/logreg/run")["validation"].numbers
    groups = {row.split(",")[0] for row in np.array(rows)[held_out]}
    assert sorted(held_out) == [number for number, row in enumerate(rows) if row.split(",")[0] in groups]
    table.write_text("\n".join(["a,b,y", "9,1,1", *rows[1:]]))
    code, _, err = command("resume", "run", "--epochs", "2")
    assert code == 2
    assert err.startswith("error: the run's data: the data have changed: data: the values differ in")
    assert "--changed-data ok" in err
    code, out, err = command("resume", "run", "--epochs", "2", "--changed-data", "ok")
    assert code == 0, err
    assert "finished after 2 epochs" in out
    assert command("resume", "run", "--changed-data", "yes")[2].startswith("error: --changed-data: 'yes' is neither")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["resume", "rum"], "RUN: there is no run 'rum'. Did you mean 'run'?"),
        (["resume", "runs"], "RUN: runs is not the folder of a run: it has no config.toml"),
        (["resume", "run"], "the run has finished. Pass --epochs with more than 3 to train on."),
        (["resume", "run", "--epochs", "2"], "--epochs: the run has already reached epoch 3. Ask for more."),
        (["resume", "run", "--epochs", "x"], "'x' does not fit"),
        (["resume", "run", "--epochs", "5", "--from", "step-1"], "--from: there is no checkpoint 'step-1'"),
        (["resume", "run", "--epochs", "5", "--devices", "gpu"], "gpu"),
        (["resume"], "Missing argument 'RUN'"),
    ],
)
def test_what_cannot_be_gone_on_with_is_said(command, finished, arguments, message):
    before = {path: path.stat().st_mtime_ns for path in finished.rglob("*") if path.name != ".lock"}
    code, _, err = command(*arguments)
    assert code == 2
    assert message in err
    assert "Traceback" not in err
    assert before == {path: path.stat().st_mtime_ns for path in finished.rglob("*") if path.name != ".lock"}


def test_a_damaged_checkpoint_is_named_and_the_one_before_is_used(command, finished, caplog):
    newest = finished / "checkpoints" / "step-00000030-epoch-0003" / "arrays.npz"
    newest.write_bytes(newest.read_bytes()[:-1000])
    code, out, _ = command("resume", finished, "--epochs", "4")
    assert code == 0
    assert out.splitlines()[0] == "resuming from step-00000020-epoch-0002: epoch 2, step 20"
    assert "skipped: " in caplog.text
    assert "arrays.npz is damaged" in caplog.text
    assert [line["epoch"] for line in logged_metrics(finished)] == [1, 2, 3, 4, 4]


def test_damaged_checkpoints_alone_are_an_error_and_stay(command, finished):
    for path in finished.glob("checkpoints/*/manifest.json"):
        path.unlink()
    log = (finished / "metrics.jsonl").read_bytes()
    code, _, err = command("resume", finished, "--epochs", "4")
    assert code == 2
    assert "none of the 3 checkpoints" in err
    assert len(list(finished.glob("checkpoints/*/arrays.npz"))) == 3
    assert (finished / "metrics.jsonl").read_bytes() == log


def test_a_log_that_was_shortened_is_not_written_on(command, finished):
    (finished / "metrics.jsonl").write_text("")
    code, _, err = command("resume", finished, "--epochs", "4")
    assert code == 2
    assert "metrics.jsonl: it has 0 bytes, but had" in err


def test_two_processes_never_share_a_folder(tmp_path, command):
    training = started(tmp_path, "--epochs", "100000")
    try:
        code, _, err = command("resume", "runs/logreg/run")
        assert code == 2
        assert err.startswith(f"error: a run is using {tmp_path / 'runs' / 'logreg' / 'run'}. Wait until it ends")
        assert "running" in command("runs", "list")[1]
    finally:
        training.kill()
        training.communicate()
    assert "crashed (its process is gone)" in command("runs", "list")[1]


def test_a_crashed_run_is_as_far_as_its_newest_checkpoint(tmp_path, command):
    training = started(tmp_path, "--epochs", "100000", "--set", "checkpoint.every-steps=50")
    run = tmp_path / "runs" / "logreg" / "run"
    give_up = time.monotonic() + 60
    while not checkpoint.complete_checkpoints(run):
        assert time.monotonic() < give_up
    training.kill()
    # Not waited for yet: a zombie has ended all the same.
    while "crashed" not in (out := command("runs", "list")[1]):
        assert time.monotonic() < give_up
    newest = checkpoint.complete_checkpoints(run)[0]
    assert re.search(rf" {newest.manifest['epoch']} +{newest.step} ", out)
    training.communicate()


def test_verify_proves_that_a_run_can_be_continued_and_changes_nothing(command, finished):
    before = {path: path.read_bytes() for path in finished.rglob("*") if path.is_file()}
    code, out, err = command("resume", finished, "--verify")
    assert (code, err) == (0, "")
    assert out == (
        "verified: the 20 steps after step 0 give the same bits with and without a save and a load after 10 of them\n"
    )
    assert before == {path: path.read_bytes() for path in finished.rglob("*") if path.is_file()}


def test_verify_finds_a_plugin_that_forgets(command, finished, monkeypatch):
    """A plugin whose influence on training is in no state: here, one of ours that has lost its memory."""
    from trainer_plugins.lr_schedule import LearningRateSchedule

    code, _, err = command(
        *("run", "logreg", "--name", "forgetful", "--epochs", "3", *QUICK, *SAVING),
        *("--plugin", "lr-schedule", "--set", "lr-schedule.schedule=polynomial"),
    )
    assert code == 0, err
    monkeypatch.setattr(LearningRateSchedule, "load_state_dict", lambda self, state: None)
    code, out, err = command("resume", "forgetful", "--verify")
    assert code == 1
    assert "differs: parameters/" in out
    assert "error: a save and a load within the" in err


# ---- the list of runs ------------------------------------------------------------------------------------------------


def test_runs_are_listed_with_their_status(command, finished):
    assert command("run", "logreg", "--name", "short", "--steps", "3", *QUICK)[0] == 0
    code, out, _ = command("runs", "list")
    assert code == 0
    lines = out.splitlines()
    shown = ["validation/loss", "validation/cross-fitted-f1"]
    assert lines[0].split() == ["run", "status", "epoch", "step", *shown, "started", "(UTC)"]
    assert lines[1].split()[:4] == ["logreg/run", "finished", "3", "30"]
    assert lines[2].startswith("logreg/short  stopped (it has reached its limit of 3 steps)")
    entries = [json.loads(line) for line in command("runs", "list", "--json")[1].splitlines()]
    assert [entry["status"] for entry in entries] == ["finished", "stopped"]
    assert entries[0]["metrics"]["validation/loss"] > 0


def test_a_record_of_a_process_with_the_same_number_is_not_taken_for_alive(command, finished):
    path = finished / "run.json"
    record = json.loads(path.read_text())
    record["status"] = "running"
    record["process"]["pid"] = os.getpid()
    path.write_text(json.dumps(record))
    assert "running" in command("runs", "list")[1]
    record["process"]["started"] -= 1000
    path.write_text(json.dumps(record))
    assert "crashed" in command("runs", "list")[1]


def test_a_folder_without_runs_says_so(command, tmp_path):
    (tmp_path / "empty").mkdir()
    assert command("runs", "list", "--runs-dir", "empty") == (0, "no runs in empty\n", "")
    assert command("runs", "list", "--runs-dir", "nowhere")[0] == 2


def test_a_record_that_cannot_be_read_is_listed_as_that(command, finished):
    (finished / "run.json").write_text("{")
    assert "unreadable" in command("runs", "list")[1]


# ---- a full disk -----------------------------------------------------------------------------------------------------


@pytest.fixture
def small_disk(tmp_path):
    """A folder for runs on a disk of 440 KB where one may be mounted, and what else keeps files from growing."""
    place = tmp_path / "runs"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=440k", "tmpfs", str(place)]
    if os.geteuid() == 0 and subprocess.run(mount, capture_output=True, check=False).returncode == 0:
        yield {}, "No space left on device"
        subprocess.run(["umount", str(place)], check=True)
    else:
        yield {"preexec_fn": limited(80_000)}, "File too large"


def test_a_full_disk_leaves_the_last_checkpoint_whole_and_is_said_without_a_traceback(tmp_path, small_disk):
    """There is room for a checkpoint or two of this net, and for the log and the model."""
    limits, reason = small_disk
    saving = ["--set", "checkpoint.every-steps=10", "--set", "checkpoint.keep-last=0", "--optimizer", "adam"]
    code, said = process(
        *(tmp_path, "-m", "trainer", "run", "logreg", "--name", "run", "--epochs", "8", "--hidden", "100,100"),
        *(*QUICK, *SAVING, *saving),
        **limits,
    )
    assert code == 0
    assert re.search(rf"WARNING: the checkpoint of step \d+ cannot be written: {reason}. The run continues", said)
    assert "Traceback" not in said
    run = tmp_path / "runs" / "logreg" / "run"
    assert not [path.name for path in (run / "checkpoints").iterdir() if path.name.startswith(".")]
    saved = checkpoint.complete_checkpoints(run)
    assert len(saved) == len(list((run / "checkpoints").iterdir()))
    for each in saved:
        each.read()
    assert bool(saved) == (not limits)


def limited(size):
    """For a process that may not write larger files."""
    import resource

    return lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))


def test_a_log_that_cannot_be_written_is_switched_off_loudly_and_the_run_continues(tmp_path):
    code, said = process(
        *(
            tmp_path,
            "-m",
            "trainer",
            "run",
            "logreg",
            "--name",
            "run",
            "--epochs",
            "200",
            "--no-plugin",
            "checkpoint",
            *QUICK,
        ),
        preexec_fn=limited(50_000),
    )
    assert code == 0, said
    assert "plugin 'metrics-log' in on_epoch_end" in said
    assert "File too large. It is switched off, the run continues." in said
    assert "WARNING: metrics-log was switched off" in said
    run = tmp_path / "runs" / "logreg" / "run"
    assert status(run) == "finished"
    epochs = [line["epoch"] for line in logged_metrics(run) if line["event"] == "epoch"]
    assert epochs == list(range(1, len(epochs) + 1))
    assert 20 < len(epochs) < 200
    assert "ResourceWarning" not in said


def test_a_log_that_cannot_be_opened_is_a_users_mistake(command, monkeypatch):
    from trainer_plugins import metrics_log

    monkeypatch.setattr(metrics_log, "JSONL", "there-is-no-such-folder/metrics.jsonl")
    code, _, err = command("run", "logreg", *QUICK)
    assert code == 2
    assert "plugin 'metrics-log': " in err
    assert "cannot be written: No such file or directory" in err
    assert not list(Path().glob("runs/*/*"))
