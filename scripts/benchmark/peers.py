"""The peers' environment: created by the first call that needs it, and unchanged afterwards."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import zlib
from pathlib import Path

REQUIREMENTS = Path(__file__).parent / "peers.txt"
CPU_INDEX = "https://download.pytorch.org/whl/cpu"
"""PyTorch's index of builds without CUDA, which save 5 GB."""


def python_of(folder: Path) -> Path:
    """The interpreter of a virtual environment."""
    return folder / "bin" / "python"


def ensure(folder: Path) -> Path:
    """Installs what `peers.txt` pins into `folder`, unless that was done; returns the interpreter."""
    stamp, wanted = folder / ".stamp", f"{sys.version_info[:2]} {zlib.crc32(REQUIREMENTS.read_bytes())}"
    python = python_of(folder)
    if stamp.exists() and stamp.read_text(encoding="utf-8") == wanted and _runs(python):
        return python
    print(f"Installing the libraries to compare with into {folder}; once, about 2 GB …", file=sys.stderr, flush=True)
    if not _runs(python):
        shutil.rmtree(folder, ignore_errors=True)
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
    stamp.unlink(missing_ok=True)
    pip = [str(python), "-m", "pip", "--disable-pip-version-check", "--quiet"]
    requirements = REQUIREMENTS.read_text(encoding="utf-8")
    torch = re.search(r"^torch==\S+", requirements, re.MULTILINE)
    assert torch is not None
    # Tried first, with a short timeout; if that index cannot be reached, torch comes from the configured ones.
    quickly = ["install", "--no-deps", "--retries", "0", "--timeout", "10", "--index-url", CPU_INDEX, torch[0]]
    subprocess.run([*pip, *quickly], check=False, capture_output=True)
    subprocess.run([*pip, "install", "--requirement", str(REQUIREMENTS)], check=True)
    stamp.write_text(wanted, encoding="utf-8")
    return python


def _runs(python: Path) -> bool:
    try:
        return subprocess.run([str(python), "-c", "import pip"], check=False, capture_output=True).returncode == 0
    except OSError:
        return False
