"""What is arranged around the import of MXNet."""

import subprocess
import sys

import pytest


def said(script):
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120, check=True)
    return done.stdout.split()


def test_importing_it_leaves_out_what_it_does_not_need():
    script = "import sys, trainer.mxnet; print(*(n for n in ('sklearn', 'scipy.stats') if n in sys.modules))"
    assert said(script) == []


def test_what_was_left_out_can_still_be_used():
    script = (
        "from trainer.mxnet import mx\n"
        "print(mx.contrib.quantization.stats.norm.cdf(0), mx.test_utils.ss.norm.cdf(0))\n"
        "import scipy.stats, sklearn.base\n"
        "print(scipy.stats.norm.cdf(0))\n"
    )
    assert said(script) == ["0.5", "0.5", "0.5"]


def test_what_was_imported_before_stays():
    script = "import sklearn.base, scipy.stats as s, sys, trainer.mxnet; print(sys.modules['scipy.stats'] is s)"
    assert said(script) == ["True"]


# ---- a plain `import mxnet`, before or after ours --------------------------------------------------------------------

USE = """
from mxnet import autograd, gluon
net = gluon.nn.HybridSequential()
net.add(gluon.nn.Dense(3, activation="relu"), gluon.nn.Dense(1))
net.initialize()
net.hybridize()
step = gluon.Trainer(net.collect_params(), "sgd", {"learning_rate": 0.1}, kvstore=None)
with autograd.record():
    loss = gluon.loss.L2Loss()(net(mxnet.nd.ones((4, 2))), mxnet.nd.ones((4,)))
loss.backward()
step.step(4)
assert mxnet.np.ones((2, 2))[0].shape == (2,)
"""
FIT = 'assert fit("logreg", epochs=1, train_rows=20, without=["progress"], runs_dir=None).status == "finished"\n'
CHECKS = """
import os
from trainer import UsageError
from trainer.mxnet import mx
assert mx is mxnet
assert os.environ["MXNET_SUBGRAPH_BACKEND"] == "default" and os.environ["DMLC_LOG_STACK_TRACE_DEPTH"] == "0"
try:
    mxnet.kv.create("horovod")
except UsageError:
    print("refused")
"""


@pytest.mark.parametrize(
    "script",
    [
        f"import trainer.mxnet\nimport mxnet\n{USE}",
        f"from trainer import fit\nimport sys\nassert 'mxnet' not in sys.modules\nimport mxnet\n{USE}{FIT}{USE}",
        f"from trainer import fit\n{FIT}import mxnet\n{USE}",
        "from trainer import load_model, resume\nimport mxnet\n" + USE,
        f"import numpy\nnumpy.bool = bool\nimport mxnet\n{USE}import trainer.mxnet\n{USE}",
        f"import numpy\nnumpy.bool = bool\nimport mxnet\n{USE}from trainer import fit\n{FIT}{USE}",
    ],
    ids=["ours, plain", "fit, plain", "fit(), plain", "others, plain", "plain, ours", "plain, fit"],
)
def test_a_plain_import_of_mxnet_works_before_and_after_ours(script):
    assert said(script + CHECKS) == ["refused"]


def test_what_the_environment_says_is_kept():
    script = (
        "import os\nos.environ['MXNET_SUBGRAPH_BACKEND'] = 'NONE'\nfrom trainer import fit\nimport trainer.mxnet\n"
        "print(os.environ['MXNET_SUBGRAPH_BACKEND'])"
    )
    assert said(script) == ["NONE"]
