"""gradient-norms keeps the contract of a plugin, and writes what it says."""

import csv

import numpy as np
import pytest
from gradient_norms import FILE, GradientNorms

from trainer import fit
from trainer.testing import TinyTask, plugin_checks, rows


@pytest.mark.parametrize("check", plugin_checks(lambda: GradientNorms(every=2), files=[FILE]))
def test_it_keeps_the_contract_of_a_plugin(check):
    check()


def test_the_norm_is_that_of_the_mean_losss_gradient(tmp_path):
    """Of a logistic loss: the mean of (probability - label) times the row."""

    class FromHalves(TinyTask):
        def initializer(self):
            from trainer.mxnet import mx

            return mx.init.Constant(0.5)

    run = fit(FromHalves(train_rows=8), epochs=1, batch_size=8, plugins=[GradientNorms(every=1)], runs_dir=tmp_path)
    lines = list(csv.DictReader((run.folder / FILE).read_text().splitlines()))
    assert [(line["step"], line["parameter"]) for line in lines] == [("1", "weight"), ("1", "bias")]
    data = rows(8)
    probability = 1 / (1 + np.exp(-data.features.sum(axis=1) / 2))
    expected = ((probability - data.labels)[:, None] * data.features).mean(axis=0)
    assert float(lines[0]["norm"]) == pytest.approx(np.linalg.norm(expected), rel=1e-4)
