"""Which signals end a run after its batch, and which never do."""

import os
import signal

import pytest

from trainer.signals import HANDLED, listening


@pytest.mark.parametrize("number", HANDLED)
@pytest.mark.parametrize("alone", [True, False])
def test_a_signal_is_recorded_and_the_old_handler_comes_back(number, alone):
    before = signal.getsignal(number)
    with listening(alone=alone) as interrupt:
        os.kill(os.getpid(), number)
        assert interrupt.noticed == number
        assert interrupt.signum == (number if alone else None)
    assert signal.getsignal(number) is before


def test_a_hangup_that_is_ignored_stays_ignored():
    """As under nohup."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with listening() as interrupt:
            os.kill(os.getpid(), signal.SIGHUP)
            assert interrupt.noticed is None
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)
