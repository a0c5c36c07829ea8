"""MXNet, for plugins and tasks: `from trainer.mxnet import mx, gluon`. The only module of this package that imports it.

`trainer.environment` prepares the process for any import of MXNet. This module adds two things:

- If scikit-learn and SciPy are installed, MXNet imports `sklearn.base` (for the base class of a removed interface)
  and `scipy.stats` (to calibrate quantized nets), which takes 0.5 of the 1.75 s of CPU time of its import. Both are
  hidden from it, and `scipy.stats` is imported on first use.
- `mx.kv.create` accepts any name and creates a local store for an unknown one. Here that is an error.

Both also apply if MXNet was imported before.
"""

from __future__ import annotations

import sys
import warnings
from typing import Any

import numpy as np

import trainer.environment  # noqa: F401  it arranges what MXNet needs
from trainer import cpu
from trainer._lazy import uncollected
from trainer.device_time import waiting
from trainer.errors import UsageError, choose_from

COMPUTING = cpu.of_environment()
"""How MXNet computes on the CPU in this process. It reads the environment only during its import."""

if "mxnet" not in sys.modules:
    if int(np.__version__.partition(".")[0]) > 1:
        raise UsageError(
            f"MXNet works with numpy 1, and numpy {np.__version__} is installed", fix='pip install "numpy<2".'
        )
    cpu.check_address_space()

OPTIONAL = ("sklearn", "sklearn.base", "scipy.stats")
hidden = () if "mxnet" in sys.modules else tuple(name for name in OPTIONAL if name not in sys.modules)
# To Python, None means that the module does not exist.
sys.modules.update(dict.fromkeys(hidden))  # type: ignore[arg-type]
try:
    with warnings.catch_warnings(), uncollected():
        # Deprecated numpy, distutils and string escapes inside MXNet: users cannot do anything about them.
        warnings.simplefilter("ignore")
        import mxnet
        from mxnet import autograd as _autograd
        from mxnet import gluon as _gluon
except OSError as error:
    raise UsageError(
        f"MXNet's library cannot be loaded ({error})",
        fix="On Debian and Ubuntu: apt-get install libgomp1 libquadmath0.",
    ) from error
except (ImportError, AttributeError) as error:
    raise UsageError(
        f"MXNet cannot be imported ({type(error).__name__}: {error})",
        fix="Install the versions that gluon-trainer asks for: pip install --force-reinstall gluon-trainer.",
    ) from error
finally:
    for name in hidden:
        del sys.modules[name]


class _ScipyStats:
    """Replaces scipy.stats in MXNet's modules, and imports it on first use."""

    def __getattr__(self, name: str) -> Any:
        import scipy.stats

        return getattr(scipy.stats, name)


KVSTORES = ("local", "device", "nccl", "dist_sync", "dist_device_sync", "dist_async")
_create_kvstore = mxnet.kvstore.create


def _checked_kvstore(name: Any = "local") -> Any:
    """`mx.kv.create`, for known names only; raises UsageError for others.

    MXNet silently creates a local store for an unknown name ('horovod', or a typo), and every process then trains by
    itself.
    """
    known = (*KVSTORES, *mxnet.kvstore.KVStoreBase.kv_registry)
    if isinstance(name, str) and name.lower() not in known:
        hint = choose_from(name, known)
        raise UsageError(
            f"MXNet has no kvstore {name!r}, and would silently use a local one",
            fix=f"{hint} Tasks need none: the engine itself sums over devices (--devices) and processes (mpirun).",
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
