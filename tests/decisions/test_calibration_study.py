"""The study of calibration, on a small part of its tables."""

import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def study():
    sys.path.insert(0, str(ROOT / "scripts"))
    try:
        from decisions import calibration

        yield calibration
    finally:
        sys.path.remove(str(ROOT / "scripts"))


def test_calibration_does_not_make_new_rows_worse(study):
    by_name = {table.name: table for table in study.tables()}
    assert len(by_name) == 10
    results = [study.measured(by_name[name], 0, epochs=15) for name in ("breast cancer",)]
    for each in results:
        assert each.change <= study.SLACK
        assert np.isfinite([each.sigmoid, each.isotonic]).all()
    lines = list(study.lines(results, 1))
    assert lines[-1].startswith("1 of 1 trainings")


def test_the_page_has_its_table(study, tmp_path):
    page = tmp_path / "page.md"
    page.write_text(f"before\n{study.BEGIN}\nold\n{study.END}\nafter\n")
    study.write(page, ["new"])
    assert page.read_text() == f"before\n{study.BEGIN}\n\nnew\n\n{study.END}\nafter\n"
    text = study.PAGE.read_text(encoding="utf-8")
    assert "50,000" in text
    assert study.BEGIN in text
