"""`trainer tune`: looks for the best settings of a task with Optuna; every trial is an ordinary run."""
