"""What a run has chosen: threshold, calibrator and rules."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from trainer.decisions.calibrator import calibrator_of
from trainer.decisions.rule import rule_of

if TYPE_CHECKING:
    from trainer.decisions.calibrator import Calibrator
    from trainer.decisions.rule import Rule


class Decides:
    """The part of a run that decides with its predictions."""

    threshold: float | None
    threshold_reason: str
    calibrator: Calibrator | None
    rules: dict[str, Rule]

    def calibrated(self, predictions: NDArray[Any]) -> NDArray[Any]:
        """Predictions as the saved model gives them: through `calibrator`, if there is one; in the same shape."""
        return predictions if self.calibrator is None else self.calibrator.apply(predictions)

    def copy_decision(self) -> dict[str, Any]:
        """Threshold, calibrator and rules, as JSON values: what belongs to the weights of `copy_weights`."""
        calibrator, threshold = self.calibrator, self.threshold
        return {
            "threshold": None if threshold is None else float(threshold),
            "threshold_reason": self.threshold_reason,
            "calibrator": None if calibrator is None else calibrator.to_json(),
            "rules": {name: rule.to_json() for name, rule in self.rules.items()},
        }

    def set_decision(self, values: Mapping[str, Any]) -> None:
        """Restores what `copy_decision` returned. Raises UsageError if it is damaged."""
        self.threshold, self.threshold_reason = values["threshold"], values["threshold_reason"]
        self.calibrator = calibrator_of(values["calibrator"])
        self.rules = {name: rule_of(rule) for name, rule in values["rules"].items()}
