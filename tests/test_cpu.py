"""How the CPU computes is decided before MXNet is imported, so each of these runs in a process of its own."""

import json
import os
import subprocess
import sys

import pytest

from trainer import cpu
from trainer.cpu import Computing, best_for

SMALL = ["--train-rows", "60", "--validation-rows", "40", "--epochs", "1", "--no-plugin", "tensorboard"]
VARIABLES = ("MXNET_MKLDNN_ENABLED", "MXNET_OMP_MAX_THREADS", "OMP_NUM_THREADS")


def process(folder, *command, **variables):
    environment = {name: value for name, value in os.environ.items() if name not in VARIABLES} | variables
    done = subprocess.run(
        [sys.executable, *command],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    return done.returncode, done.stdout, done.stderr


def train(folder, *options, **variables):
    code, out, err = process(folder, "-m", "trainer", "run", "logreg", *SMALL, "--name", "it", *options, **variables)
    assert code == 0, err
    run = folder / "runs" / "logreg" / "it"
    return out, json.loads((run / "run.json").read_text())["computing"], (run / "config.toml").read_text()


def test_a_small_net_is_trained_without_onednn_by_one_thread_and_the_summary_says_so(tmp_path):
    out, computing, config = train(tmp_path)
    assert "oneDNN off, 1 thread" in out
    assert computing == {"onednn": "off", "threads": 1}
    assert 'onednn = "off"' in config
    assert "threads = 1" in config


def test_a_large_net_is_trained_with_onednn_and_by_all_cores(tmp_path):
    out, made_so, _ = train(tmp_path, "--hidden", "2000,2000", "--batch-size", "60")
    assert made_so == {"onednn": "on", "threads": cpu.cores()}
    assert f"oneDNN on, {cpu.cores()} thread" in out


def test_flags_and_the_environment_come_first(tmp_path):
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    assert train(tmp_path / "one", "--onednn", "on", "--threads", "2")[1] == {"onednn": "on", "threads": 2}
    told = {"MXNET_MKLDNN_ENABLED": "1", "OMP_NUM_THREADS": "2"}
    assert train(tmp_path / "two", **told)[1] == {"onednn": "on", "threads": 2}


def test_a_flag_counts_for_more_than_the_environment(tmp_path):
    told = {"MXNET_MKLDNN_ENABLED": "0", "OMP_NUM_THREADS": "2", "MXNET_OMP_MAX_THREADS": "2"}
    assert train(tmp_path, "--onednn", "on", "--threads", "1", **told)[1] == {"onednn": "on", "threads": 1}


def test_both_ways_give_the_same_results_up_to_rounding(tmp_path):
    losses = {}
    for onednn in ("on", "off"):
        (tmp_path / onednn).mkdir()
        train(tmp_path / onednn, "--onednn", onednn)
        lines = (tmp_path / onednn / "runs" / "logreg" / "it" / "metrics.jsonl").read_text().splitlines()
        losses[onednn] = json.loads(lines[0])["metrics"]["train/loss"]
    assert losses["on"] == pytest.approx(losses["off"], rel=1e-5)


def test_a_resumed_run_computes_as_it_did_before_whatever_would_be_chosen_now(tmp_path):
    train(tmp_path, "--onednn", "on", "--threads", "2")
    code, out, err = process(tmp_path, "-m", "trainer", "resume", "runs/logreg/it", "--epochs", "2")
    assert code == 0, err
    assert "oneDNN on, 2 threads" in out
    assert "no effect" not in err
    code, out, err = process(tmp_path, "-m", "trainer", "resume", "runs/logreg/it", "--verify")
    assert (code, err) == (0, ""), err


def test_importing_the_engine_leaves_open_how_mxnet_computes(tmp_path):
    modules = "trainer.engine, trainer.proofs.resume, trainer.proofs.devices, trainer.testing"
    code, _, err = process(tmp_path, "-c", f"import sys, {modules}\nsys.exit('mxnet' in sys.modules)")
    assert code == 0, err


def test_python_programs_keep_what_mxnet_was_imported_with_and_are_told(tmp_path):
    (tmp_path / "program.py").write_text(
        "import mxnet_first\n"
        "from trainer import fit\n"
        "run = fit('logreg', train_rows=60, validation_rows=40, epochs=1, runs_dir=None, onednn='off', threads=1)\n"
        "print(run.settings.onednn)\n"
    )
    (tmp_path / "mxnet_first.py").write_text("import trainer.mxnet\n")
    code, out, err = process(tmp_path, "program.py")
    assert code == 0, err
    assert out.splitlines()[-1] == "on"
    assert "onednn = off has no effect, since MXNet is already imported with on" in err
    (tmp_path / "mxnet_first.py").write_text("")
    code, out, err = process(tmp_path, "program.py")
    assert out.splitlines()[-1] == "off"
    assert "no effect" not in err


@pytest.mark.parametrize(
    ("option", "value", "said"),
    [
        ("--threads", "0", "'0' is not a thread count (--threads)"),
        ("--threads", "many", "'many' is not a thread count"),
        ("--onednn", "maybe", "'maybe' does not fit"),
    ],
)
def test_what_cannot_be_is_a_clear_error(tmp_path, option, value, said):
    code, _, err = process(tmp_path, "-m", "trainer", "run", "logreg", option, value)
    assert code == 2
    assert said in err or said.split(" (")[0] in err
    assert "Traceback" not in err
    assert not (tmp_path / "runs").exists()


def test_the_choice_follows_the_work(monkeypatch):
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(cpu, "cores", lambda: 8)
    assert best_for(3_100) == Computing(onednn=False, threads=1)
    assert best_for(6e6) == Computing(onednn=True, threads=1)
    assert best_for(3.5e7) == Computing(onednn=True, threads=3)
    assert best_for(1e12) == Computing(onednn=True, threads=8)
    assert best_for(None).onednn
    # oneDNN's overhead is paid in every layer.
    assert [best_for(2e5, layers).onednn for layers in (1, 2, 3, 4, None)] == [True, True, False, False, False]
    monkeypatch.setenv("OMP_NUM_THREADS", "5")
    monkeypatch.setenv("MXNET_OMP_MAX_THREADS", "3")
    monkeypatch.setenv("MXNET_MKLDNN_ENABLED", "0")
    assert best_for(1e12) == best_for(None) == Computing(onednn=False, threads=5)


def test_the_work_of_logreg_follows_its_options(tmp_path):
    from trainer_plugins.logreg import LogisticRegression

    table = tmp_path / "table.csv"
    table.write_text("a,b,c,d,y\n1,2,3,4,0\n")
    assert LogisticRegression().work(10) == 10 * (100 + 100 + 100 + 10)
    assert (LogisticRegression().work_layers(), LogisticRegression(hidden=()).work_layers()) == (4, 1)
    assert LogisticRegression(data=table, label="y", hidden=(7,)).work(2) == 2 * (4 * 7 + 7)
    assert LogisticRegression(data=table, label="y", hidden=(), ignore=("a",)).work(2) == 2 * 3
    assert LogisticRegression(data=table, features=("a", "b"), hidden=()).work(1) == 2


def test_too_little_address_space_is_said_before_mxnet_is_loaded():
    """MXNet itself would crash or hang."""
    import resource
    import subprocess
    import sys

    done = subprocess.run(
        [sys.executable, "-m", "trainer", "run", "logreg", "--dry-run"],
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (900 << 20, 900 << 20)),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 2, done.stderr
    assert done.stderr.startswith("error: ulimit -v: a process may have 900 MiB of address space, and MXNet needs")
