"""What is arranged around the import of MXNet."""

import subprocess
import sys


def said(script):
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120, check=True)
    return done.stdout.split()


def test_importing_it_leaves_out_what_it_does_not_need():
    script = "import sys, trainer.mxnet; print(*(n for n in ('sklearn', 'scipy.stats') if n in sys.modules))"
    assert said(script) == []


def test_what_was_left_out_can_still_be_used():
    script = (
        "from trainer.mxnet import mx\n"
        "print(mx.contrib.quantization.stats.norm.cdf(0), mx.test_utils.ss.norm.cdf(0))\n"
        "import scipy.stats, sklearn.base\n"
        "print(scipy.stats.norm.cdf(0))\n"
    )
    assert said(script) == ["0.5", "0.5", "0.5"]


def test_what_was_imported_before_stays():
    script = "import sklearn.base, scipy.stats as s, sys, trainer.mxnet; print(sys.modules['scipy.stats'] is s)"
    assert said(script) == ["True"]
