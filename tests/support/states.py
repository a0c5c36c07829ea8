"""The state of a run as a checkpoint holds it, without a run."""

from __future__ import annotations

from typing import Any

import numpy as np


def whole_state(plugins: dict[str, Any] | None = None, *, step: int = 3, epoch: int = 1) -> dict[str, Any]:
    """A state that fits the schema, with one parameter and the given states of plugins."""
    return {
        "run": {
            "epoch": epoch, "step": step, "step_in_epoch": step, "updates": step, "epoch_rows": 8 * step,
            "within_epoch": True, "threshold": None, "threshold_reason": "", "calibrator": None, "rules": {},
            "started": 1.7e9, "seconds": 1.5, "seeded_at": None,
            "ledger": [{"plugin": "a", "event": "setup", "calls": 1, "seconds": 0.1, "waiting": 0.0}],
            "metrics": {"train/loss": float("nan")}, "directions": {"train/loss": "min"},
            "times_logged": {"train/loss": 1},
            "epoch_metrics": {"train/loss": 0.5}, "history": [{"epoch": 1, "step": 1, "train/loss": 0.5}],
            "requests": {"stop": "enough"},
            "decisions": [
                {"plugin": "a", "action": "stop", "reason": "enough", "epoch": 1, "step": 3, "count": 1, "last_step": 3}
            ],
        },
        "rows": 24,
        "split_version": None,
        "data": None,
        "loss": {"newest": 0.5, "sums": [np.ones(8)], "contexts": ["cpu(0)"], "additions": 1, "total": 0.0, "kept": []},
        "parameters": {"weight": np.ones((1, 3), np.float32)},
        "optimizer": {
            "name": "adam", "groups": [["weight"]], "states": [[np.ones(3), np.ones(3)]],
            "attributes": {"lr": 0.1, "num_update": 3}, "updates": {"0": 3},
        },
        "plugins": plugins or {},
        "evaluation": None,
        "made_by": {"versions": {"mxnet": "1.9.1"}, "plugins": [{"name": "a", "version": "1"}], "config": {}},
    }  # fmt: skip
