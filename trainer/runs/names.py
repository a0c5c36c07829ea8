"""Names that the command line needs before anything else is imported."""

from pathlib import Path

DEFAULT_RUNS = Path("runs")
"""The folder of runs, below the current one, unless --runs-dir names another."""
RUN = "run.json"
"""The file in a run's folder that says what became of the run."""
