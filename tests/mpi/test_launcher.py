"""What launchers leave in the environment, and what is made of it before anything is loaded."""

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from nets import Given, dense, regression
from tiny import settings

from trainer import Engine, UsageError, devices
from trainer.data.batches import Share, split_rows
from trainer.launch.prepare import Request, prepare_run
from trainer.mxnet import gluon, mx
from trainer.processes import Launched, Processes, launched
from trainer.processes.launcher import check


class Fixed(gluon.HybridBlock):
    """A net with a constant, which nothing measures."""

    def __init__(self):
        super().__init__()
        with self.name_scope():
            self.body = gluon.nn.Dense(1)
            self.fixed = self.params.get_constant("fixed", mx.nd.ones((1, 5)))

    def hybrid_forward(self, F, x, fixed):
        return self.body(F.broadcast_mul(x, fixed))


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, Launched()),
        ({"OMPI_COMM_WORLD_SIZE": "4", "OMPI_COMM_WORLD_RANK": "3"}, Launched("mpirun", 3, 4)),
        ({"OMPI_COMM_WORLD_SIZE": "1", "OMPI_COMM_WORLD_RANK": "0"}, Launched("mpirun")),
        ({"PMI_SIZE": "2", "PMI_RANK": "0"}, Launched("mpiexec", 0, 2)),
        ({"SLURM_STEP_NUM_TASKS": "8", "SLURM_PROCID": "5", "PMIX_RANK": "5"}, Launched("srun", 5, 8)),
        # A batch script is a process of its own, though the job has many tasks.
        ({"SLURM_NTASKS": "8", "SLURM_PROCID": "0"}, Launched()),
        ({"OMPI_COMM_WORLD_SIZE": "4", "OMPI_COMM_WORLD_RANK": "3", "TRAINER_MPI": "off"}, Launched()),
        ({"OMPI_COMM_WORLD_SIZE": "four", "OMPI_COMM_WORLD_RANK": "3"}, Launched()),
    ],
)
def test_launchers_are_told_by_their_variables(environment, expected):
    assert launched(environment) == expected
    assert launched(environment).is_first is (expected.rank == 0)


def test_slurm_without_pmix_is_a_mistake():
    environment = {"SLURM_STEP_NUM_TASKS": "8", "SLURM_PROCID": "5"}
    with pytest.raises(UsageError, match=r"Slurm started 8 tasks that cannot connect to each other.*srun --mpi=pmix"):
        check(launched(environment), environment)
    environment["PMIX_RANK"] = "5"
    check(launched(environment), environment)


def test_a_run_alone_loads_no_mpi():
    script = (
        "import sys; from trainer import fit\n"
        "fit('logreg', epochs=1, train_rows=20, without=['progress', 'tensorboard'], runs_dir=None)\n"
        "print([name for name in sys.modules if name.startswith('mpi4py')])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout.strip() == "[]"


@given(rows=st.integers(0, 500), processes=st.integers(1, 9), contexts=st.integers(1, 4))
def test_the_shares_of_all_processes_are_the_batch_in_order(rows, processes, contexts):
    shares = [Share(contexts, rank, processes).of(rows) for rank in range(processes)]
    begins, counts = zip(*shares, strict=True)
    sizes = [sum(each) for each in counts]
    assert sizes == split_rows(rows, processes)
    assert list(begins) == [sum(sizes[:rank]) for rank in range(processes)]
    assert all(len(each) == contexts for each in counts)


@pytest.mark.parametrize(
    ("text", "rank", "size", "expected"),
    [
        ("gpu", 0, 1, [0]),
        ("gpu", 2, 3, [2]),
        ("gpu", 4, 5, [0]),
        ("auto", 0, 1, [0, 1, 2, 3]),
        ("auto", 1, 2, [1, 3]),
        ("auto", 5, 6, [1]),
        ("gpu:0,3", 1, 2, [0, 3]),
    ],
)
def test_processes_of_a_machine_divide_its_gpus(monkeypatch, text, rank, size, expected):
    monkeypatch.setattr(devices, "gpus", lambda: 4)
    monkeypatch.setattr(devices, "reported_gpus", list)
    assert devices.contexts(text, rank, size) == [mx.gpu(number) for number in expected]


@pytest.mark.parametrize("name", ["horovod", "byteps", "dist-sync", "nonsense"])
def test_an_unknown_kvstore_is_an_error(name):
    with pytest.raises(UsageError, match=f"MXNet has no kvstore '{name}', and would silently use a local one"):
        mx.kv.create(name)
    net = gluon.nn.Dense(1, in_units=2)
    net.initialize(ctx=[mx.cpu(0), mx.cpu(1)])
    trainer = gluon.Trainer(net.collect_params(), "sgd", kvstore=name)
    with pytest.raises(UsageError, match="would silently use a local one"):
        trainer._init_kvstore()


def test_known_kvstores_are_made_as_ever():
    assert [mx.kv.create(name).type for name in ("local", "device", "Device")] == ["local", "device", "device"]
    assert mx.kv.create().type == "local"


def test_there_is_no_option_for_a_kvstore_and_that_is_explained(tmp_path):
    file = tmp_path / "given.toml"
    file.write_text('kvstore = "dist_sync"')
    explained = r"there is no option '(optimizer\.)?kvstore'. No kvstore is used: --devices"
    for sets in (["kvstore=dist_sync"], ["optimizer.kvstore=dist_sync"]):
        request = Request("logreg", sets=sets, runs_dir=None)
        with pytest.raises(UsageError, match=explained):
            prepare_run(request).train(dry_run=True)
    with pytest.raises(UsageError, match=r"there is no key 'kvstore'\. No kvstore is used: --devices"):
        prepare_run(Request("logreg", config=file, runs_dir=None))


@pytest.mark.parametrize(
    ("net", "devices_", "said"),
    [
        (lambda: dense(3, norm=True), "cpu:0,1", True),
        (lambda: dense(3), "cpu:0,1", False),
        (lambda: dense(3, norm=True), "cpu", False),
        (Fixed, "cpu:0,1", False),
    ],
    ids=["BatchNorm", "none", "one device", "a constant"],
)
def test_a_run_says_that_batchnorm_differs_by_device(caplog, net, devices_, said):
    Engine(Given(regression(12), make_net=net), settings(devices=devices_))
    assert (
        any("BatchNorm" in each.message and "each of 2 parts is normalised" in each.message for each in caplog.records)
        is said
    )


def test_a_process_alone_is_given_back_what_it_has():
    alone = Processes()
    array = np.arange(3.0)
    assert alone.sum(array) is array
    assert (alone.rank, alone.size, alone.gather({"a": 1})) == (0, 1, [{"a": 1}])
    with alone.together():
        alone.compare({"a": 1}, "here")
