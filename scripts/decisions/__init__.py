"""Studies of calibration, thresholds and sets, through the functions that runs use: python -m decisions.guarantee."""
