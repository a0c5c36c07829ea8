"""digits keeps the contract of a task."""

import pytest
from digits import Digits

from trainer.testing import task_checks


@pytest.mark.parametrize("check", task_checks(lambda: Digits(hidden=8)))
def test_it_keeps_the_contract_of_a_task(check):
    check()
