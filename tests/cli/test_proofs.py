"""trainer check-devices and trainer doctor."""

from pathlib import Path

import pytest
from packages import environment, install, trainer

from trainer import devices
from trainer.catalog import registry
from trainer.devices import ReportedGpu


@pytest.mark.parametrize(
    "more",
    [
        [],
        ["--set", "task.train-rows=35", "--set", "batch-size=2", "--steps", "40"],
        ["--plugin", "gradient-clipping", "--set", "gradient-clipping.norm=0.1", "--set", "optimizer.name=adam"],
        ["--plugin", "gradient-accumulation", "--plugin", "weight-averaging"],
    ],
)
def test_contexts_that_agree_are_said_to(command, more):
    code, out, err = command("check-devices", "logreg", "--devices", "cpu:0,1,2", *more)
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert lines[0].endswith("steps on cpu(0), cpu(1), cpu(2), compared with cpu(0)")
    assert [line.split()[0] for line in lines[1:]] == ["gradients", "weights", "metrics"]
    assert all(line.endswith("equal up to rounding") for line in lines[1:])
    assert list(Path().iterdir()) == []


def test_the_only_task_need_not_be_named(command, monkeypatch):
    one = [entry for entry in registry.installed(registry.TASKS) if entry.name == "logreg"]
    installed = registry.installed
    monkeypatch.setattr(registry, "installed", lambda group: one if group == registry.TASKS else installed(group))
    assert command("check-devices", "--devices", "cpu:0,1", "--steps", "3")[0] == 0


def test_of_several_tasks_one_has_to_be_named(command):
    code, out, err = command("check-devices", "--devices", "cpu:0,1", "--steps", "3")
    assert (code, out) == (2, "")
    assert "no task was named. Name one of: image-classification, linreg, logreg." in err


def test_dropout_is_told_as_the_reason_for_a_difference(command):
    code, out, err = command("check-devices", "logreg", "--devices", "cpu:0,1", "--set", "task.dropout=0.5")
    assert code == 1
    assert "note: the net draws random numbers" in out
    assert "the devices do not give the same results" in err


def test_a_wrong_reduction_is_found(command, monkeypatch):
    """The proof has to fail where it should: here, gradients of the second context are lost."""
    from trainer.step.parameters import Parameters

    monkeypatch.setattr(Parameters, "reduce", lambda self, rows: None)
    code, out, _ = command("check-devices", "logreg", "--devices", "cpu:0,1")
    assert code == 1
    assert "gradients" in out.splitlines()[1]
    assert out.splitlines()[1].endswith("different")


def test_a_single_device_is_nothing_to_compare(command):
    code, _, err = command("check-devices", "logreg", "--devices", "cpu")
    assert (code, err) == (2, "error: --devices: 'cpu' is one device. Name two or more.\n")


def test_the_doctor_finds_this_machine_well(command):
    code, out, err = command("doctor")
    assert (code, err) == (0, "")
    topics = [line.split()[0] for line in out.splitlines()]
    assert {"python", "gluon-trainer", "numpy", "mxnet", "oneDNN", "threads", "contexts", "MPI"} <= set(topics)
    assert "WRONG" not in out
    assert any(line.split()[:2] == ["task", "logreg"] for line in out.splitlines())
    assert "works after `import trainer.mxnet` or `from trainer import fit`" in out


def test_the_doctor_names_a_broken_package_and_continues(tmp_path):
    install(
        tmp_path, "broken-pack", {"trainer.plugins": {"broken": "broken_pack:Plugin"}}, broken_pack="import nothing_"
    )
    done = trainer("doctor", path=[tmp_path])
    assert done.returncode == 1
    lines = done.stdout.splitlines()
    at = next(number for number, line in enumerate(lines) if "broken (broken-pack 1.0)" in line)
    assert "WRONG: plugin 'broken' (broken-pack 1.0)" in lines[at + 1]
    assert "No module named 'nothing_'" in lines[at + 1]
    assert any("logreg (gluon-trainer" in line for line in lines[at:])


SMI = """#!/bin/sh
echo 'NVIDIA GeForce RTX 3090, 8.6'
echo 'NVIDIA H100 80GB HBM3, 9.0'
"""


@pytest.fixture
def driver(tmp_path, monkeypatch):
    """A machine whose driver reports an old and a new GPU."""
    tool = tmp_path / "bin" / "nvidia-smi"
    tool.parent.mkdir()
    tool.write_text(SMI)
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tool.parent}:{environment()['PATH']}")


def test_what_the_driver_reports_is_read(driver):
    assert devices.reported_gpus() == [
        ReportedGpu("NVIDIA GeForce RTX 3090", (8, 6)),
        ReportedGpu("NVIDIA H100 80GB HBM3", (9, 0)),
    ]


@pytest.mark.parametrize(
    ("capability", "drivable"), [((3, 7), False), ((5, 0), True), ((8, 9), True), ((9, 0), False), ((12, 0), False)]
)
def test_what_the_wheels_hold_code_for_can_be_driven(capability, drivable):
    assert ReportedGpu("it", capability).is_drivable is drivable


def test_the_doctor_says_which_gpu_mxnet_cannot_drive(driver, command):
    code, out, _ = command("doctor")
    assert code == 1
    assert "NVIDIA GeForce RTX 3090, compute capability 8.6" in out
    assert "WRONG: MXNet's wheels support compute capability 5.0 to 8.9, but the NVIDIA H100 80GB HBM3 has 9.0" in out


def test_a_gpu_that_mxnet_cannot_drive_is_refused_before_it_is_used(driver, monkeypatch):
    from trainer import UsageError
    from trainer.mxnet import mx

    monkeypatch.setattr(devices, "gpus", lambda: 2)
    with pytest.raises(UsageError, match=r"but the NVIDIA H100 80GB HBM3 has 9\.0\. Use --devices cpu"):
        devices.contexts("gpu:1")
    assert devices.contexts("auto") == [mx.cpu(0)]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    assert devices.contexts("gpu:1") == [mx.gpu(1)]


@pytest.mark.parametrize("script", ["#!/bin/sh\nexit 9\n", "#!/bin/sh\necho nonsense\n", "not a program"])
def test_a_driver_that_does_not_answer_reports_none(driver, tmp_path, script):
    (tmp_path / "bin" / "nvidia-smi").write_text(script)
    assert devices.reported_gpus() == []
