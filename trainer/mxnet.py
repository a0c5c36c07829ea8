"""The only module that imports MXNet; everything else takes `mx` from here.

MXNet 1.9.1 is its last release, so what it needs from its surroundings is arranged once, in this file:

- `numpy.bool` went away in numpy 1.24. MXNet reads it while it is imported and again whenever `mx.np` is indexed, so
  it is put back and stays.
- `MXNET_SUBGRAPH_BACKEND`: the default backend folds and caches the weights of a symbol that is bound for inference,
  and later updates are not seen (logits were off by 3.09). `NONE` is right too, but logs a line at every bind;
  `default` is the backend that partitions nothing.
- Where they are installed it imports scikit-learn (for the base class of an interface that is long gone) and
  scipy.stats (for calibrating quantized nets), which is 0.5 of the 1.75 s of processor time that its import takes. It
  is told that there are none, and finds scipy.stats when it uses it.
- `mx.kv.create` takes any name, and makes a local store of one that it does not know. Here that is an error.
- `MXNET_STORAGE_FALLBACK_LOG_VERBOSE`: with oneDNN off, MXNet prints a page of warnings about storage types.
"""

from __future__ import annotations

import os
import sys
import warnings
from typing import Any

import numpy as np

from trainer import cpu
from trainer.device_time import waiting
from trainer.errors import UsageError, did_you_mean, listed

os.environ.setdefault("MXNET_SUBGRAPH_BACKEND", "default")
os.environ.setdefault("MXNET_SUBGRAPH_VERBOSE", "0")
os.environ.setdefault("MXNET_STORAGE_FALLBACK_LOG_VERBOSE", "0")
os.environ.setdefault("DMLC_LOG_STACK_TRACE_DEPTH", "0")

if "bool" not in vars(np):
    np.bool = bool  # type: ignore[attr-defined,unused-ignore]

COMPUTING = cpu.of_environment()
"""How MXNet computes on the CPU in this process. It reads the environment while it is imported, and not again."""

hidden: dict[str, None] = {name: None for name in ("sklearn", "sklearn.base", "scipy.stats") if name not in sys.modules}
# None is what Python takes for "there is no such module".
sys.modules.update(hidden)  # type: ignore[arg-type]
try:
    with warnings.catch_warnings():
        # Deprecated numpy, distutils and string escapes inside MXNet: nothing that a user could act on.
        warnings.simplefilter("ignore")
        import mxnet
        from mxnet import autograd as _autograd
        from mxnet import gluon as _gluon
except OSError as error:
    raise UsageError(
        f"MXNet's library cannot be loaded ({error})",
        fix="On Debian and Ubuntu: apt-get install libgomp1 libquadmath0.",
    ) from error
finally:
    for name in hidden:
        del sys.modules[name]


class _ScipyStats:
    """Stands for scipy.stats in MXNet's modules, and imports it when something of it is used."""

    def __getattr__(self, name: str) -> Any:
        import scipy.stats

        return getattr(scipy.stats, name)


KVSTORES = ("local", "device", "nccl", "dist_sync", "dist_device_sync", "dist_async")
_create_kvstore = mxnet.kvstore.create


def _checked_kvstore(name: Any = "local") -> Any:
    """`mx.kv.create`, for names that mean something.

    MXNet makes a local store of any other one ('horovod', or a typing error) without a word, and every process then
    trains by itself. Raises UsageError for those.
    """
    known = (*KVSTORES, *mxnet.kvstore.KVStoreBase.kv_registry)
    if isinstance(name, str) and name.lower() not in known:
        hint = did_you_mean(name, known) or f"It has: {listed(known)}."
        raise UsageError(
            f"MXNet has no kvstore {name!r}, and would silently take a local one",
            fix=f"{hint} Tasks need none: the engine sums over devices (--devices) and processes (mpirun) by itself.",
        )
    return _create_kvstore(name)


mxnet.kvstore.create = mxnet.kv.create = _checked_kvstore

if "scipy.stats" in hidden:
    mxnet.contrib.quantization.stats = _ScipyStats()
    mxnet.test_utils.ss = mxnet.contrib.quantization.stats

mx: Any = mxnet
"""The MXNet package. It has no type information, hence `Any`."""

gluon: Any = _gluon
"""`mxnet.gluon`."""

autograd: Any = _autograd
"""`mxnet.autograd`."""

Array = Any
"""An `mxnet.nd.NDArray`."""

Context = Any
"""An `mxnet.Context`."""

__all__ = ["COMPUTING", "Array", "Context", "autograd", "gluon", "mx", "waiting"]
