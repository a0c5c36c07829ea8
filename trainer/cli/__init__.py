"""The command line: it parses and prints, and nothing else."""

from __future__ import annotations

import sys


def main() -> None:
    """The console command `trainer`."""
    from trainer.cli.app import run_app

    sys.exit(run_app())
