"""Prepares the process for importing MXNet 1.9.1, its last release; importing this module is enough.

`trainer.mxnet` imports it, and so does everything that a script uses before MXNet, such as `fit`. Afterwards a plain
`import mxnet` works. This module does not import MXNet itself.

- `numpy.bool` was removed in numpy 1.24. MXNet reads it during its import and whenever `mx.np` is indexed, so it is
  restored permanently.
- `MXNET_SUBGRAPH_BACKEND`: the default backend folds and caches the weights of a symbol that is bound for inference,
  and misses later updates (logits were off by 3.09). `NONE` is correct too, but logs a line at every bind; `default`
  does not partition the graph.
- `MXNET_STORAGE_FALLBACK_LOG_VERBOSE`: with oneDNN off, MXNet prints a page of warnings about storage types.
- `MXNET_EXEC_BULK_EXEC_MAX_NODE_TRAIN`: the engine starts operators in segments of at most 15; one segment for all of a
  small net's saves a tenth of its step.
- `DMLC_LOG_STACK_TRACE_DEPTH`: MXNet's errors carry a C++ stack trace that helps no user.

Variables that are already set keep their values.
"""

from __future__ import annotations

import os

import numpy as np

os.environ.setdefault("MXNET_SUBGRAPH_BACKEND", "default")
os.environ.setdefault("MXNET_SUBGRAPH_VERBOSE", "0")
os.environ.setdefault("MXNET_STORAGE_FALLBACK_LOG_VERBOSE", "0")
os.environ.setdefault("DMLC_LOG_STACK_TRACE_DEPTH", "0")
os.environ.setdefault("MXNET_EXEC_BULK_EXEC_MAX_NODE_TRAIN", "200")

if "bool" not in vars(np):
    np.bool = bool  # type: ignore[attr-defined,unused-ignore]
