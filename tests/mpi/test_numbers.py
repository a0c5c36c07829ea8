"""Several real processes compute what one computes."""

import numpy as np
import pytest
import rank_jobs
import ranks

pytestmark = pytest.mark.skipif(ranks.is_missing(), reason="Open MPI has wheels for Linux alone")


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    folder = tmp_path_factory.mktemp("alone")
    rank_jobs.write(folder)
    return rank_jobs.read(folder)


@pytest.mark.slow
def test_three_processes_equal_one(alone, tmp_path):
    done = ranks.run(3, rank_jobs.__file__, tmp_path, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""
    found = rank_jobs.read(tmp_path)
    for name, one in alone.items():
        several = found[name]
        assert one["kind"] == several["kind"], name
        # Step, reason and status of the end: requests came at the same step, for the same reason.
        assert one["stopped"] == several["stopped"], name
        assert one["threshold"] == pytest.approx(several["threshold"], abs=1e-6), name
        # The loss of a broken step is NaN in all of them.
        assert one["metrics"] == pytest.approx(several["metrics"], rel=1e-5, abs=1e-6, nan_ok=True), name
        for entry, other in zip(one["history"], several["history"], strict=True):
            assert entry == pytest.approx(other, rel=1e-5, abs=1e-6, nan_ok=True), name
        for key, values in one["arrays"].items():
            # Norms and losses add up the errors of many numbers.
            tolerance = 3e-5 if key in ("norms", "losses") else 1e-6
            ours, theirs = np.nan_to_num(values), np.nan_to_num(several["arrays"][key])
            apart = np.abs(ours - theirs) / np.maximum(np.abs(ours), 1)
            assert np.max(apart, initial=0) <= tolerance, f"{name}: {key}"
        assert (one["arrays"]["labels"] == several["arrays"]["labels"]).all(), name
        for key, value in one["metrics"].items():
            if key.endswith(("accuracy", "f1", "precision", "recall", "positive")):
                assert value == several["metrics"][key], f"{name}: {key}"
