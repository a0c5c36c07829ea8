"""Sizes as text."""

from __future__ import annotations

import pytest

from trainer.config.settings import Settings
from trainer.config.sizes import bytes_of
from trainer.errors import UsageError
from trainer.reading import free_memory


@pytest.mark.parametrize(
    ("text", "size"),
    [("4GB", 4 * 10**9), ("512 MiB", 512 * 2**20), ("1.5g", 3 * 2**29), ("100", 100), (" 2 kb ", 2000)],
)
def test_a_size_is_a_number_and_a_unit(text: str, size: int) -> None:
    assert bytes_of(text, where="--memory") == size


@pytest.mark.parametrize("text", ["", "GB", "-1GB", "0", "4 GBs", "1e9", "½GB", "٤GB", "nan"])
def test_anything_else_is_refused_with_the_fix(text: str) -> None:
    with pytest.raises(UsageError, match=r"--memory: .* is not a size\. .*4GB"):
        bytes_of(text, where="--memory")


def test_auto_is_half_of_what_is_free_and_is_shared_by_processes() -> None:
    settings = Settings(epochs=1, batch_size=1, seed=0)
    assert 0.3 < settings.memory_bytes() / free_memory() < 0.7
    assert settings.model_copy(update={"memory": "8MB"}).memory_bytes(processes=4) == 2 * 10**6
