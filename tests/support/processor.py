"""What the processor that runs the tests can compute."""

from pathlib import Path

import pytest

CPU = Path("/proc/cpuinfo")
HAS_BFLOAT16 = CPU.exists() and "avx512bw" in CPU.read_text(encoding="utf-8")
"""Whether oneDNN computes in bfloat16 here."""

needs_bfloat16 = pytest.mark.skipif(not HAS_BFLOAT16, reason="oneDNN computes in bfloat16 on CPUs with avx512bw alone")
