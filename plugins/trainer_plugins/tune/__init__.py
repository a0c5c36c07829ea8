"""`trainer tune`: searches for a task's best settings with Optuna; every trial is an ordinary run."""
