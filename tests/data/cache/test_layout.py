"""The files of a cache: any Arrow tool reads them, and what is read is what was written."""

import mmap
import os
import random
import tempfile
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pytest
from caches import part_of
from hypothesis import given, settings
from hypothesis import strategies as st

from trainer.data.cache import Layout, columns, split_file
from trainer.data.cache.columns import PIECE, MappedColumns
from trainer.data.cache.faults import Damaged
from trainer.data.cache.locks import take
from trainer.data.cache.split_file import SplitFile
from trainer.errors import TrainerError, UsageError

MARK = "0" * 32


def encoded(layout, rows, seed=0):
    generator = np.random.default_rng(seed)
    return SimpleNamespace(
        features=generator.normal(size=(rows, layout.width)).astype(np.float32),
        ids=generator.integers(0, 2**31, (rows, layout.ids)).astype(np.int32) if layout.ids else None,
        labels=generator.normal(size=rows).astype(np.float32),
        weights=generator.random(rows, np.float32) if layout.weighted else None,
    )


def opened(file, folder, entry):
    (folder / "used").touch()
    return MappedColumns(folder / f"{file.split}.arrow", entry, take(folder / "used", shared=True))


layouts = st.builds(Layout, st.integers(0, 9), st.integers(0, 4), st.booleans(), st.booleans())


@settings(max_examples=25)
@given(layouts, st.integers(0, 700), st.randoms(), st.integers(1, 4))
def test_what_is_written_in_any_order_by_threads_is_what_arrow_reads(layout, rows, order, threads):
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        made = encoded(layout, rows)
        file = SplitFile(folder, "train", rows, layout, MARK)
        file.create()
        cuts = sorted({0, rows, *(order.randint(0, rows) for _ in range(5))})
        pieces = list(pairwise(cuts))
        order.shuffle(pieces)
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(lambda piece: file.write(piece[0], part_of(made, *piece)), pieces))
        entry = file.complete()
        file.close()
        made.features = made.features.astype(np.float16) if layout.half else made.features
        with pa.memory_map(str(folder / "train.arrow")) as mapped:
            table = pa.ipc.open_file(mapped).read_all()
            table.validate(full=True)
            assert table.num_rows == rows
            columns = opened(file, folder, entry)
            for column, values in vars(made).items():
                found = getattr(columns, column)
                if values is None:
                    assert found is None
                    continue
                assert found.dtype == values.dtype
                np.testing.assert_array_equal(found, values)
                if values.size or column == "labels":
                    chunks = table[column].combine_chunks()
                    flat = chunks.flatten() if pa.types.is_fixed_size_list(chunks.type) else chunks
                    np.testing.assert_array_equal(flat.to_numpy(), values.ravel())
            del table, chunks, flat


def test_a_split_of_more_than_two_billion_numbers_has_its_last_row_in_its_place(tmp_path, monkeypatch):
    monkeypatch.setattr(split_file, "reserve", lambda file, size, folder: os.ftruncate(file, size))
    layout, rows = Layout(64, 0, weighted=False), 40_000_001
    file = SplitFile(tmp_path, "train", rows, layout, MARK)
    file.create()
    made = encoded(layout, 3)
    file.write(rows - 3, made)
    file.close()
    with pa.memory_map(str(tmp_path / "train.arrow")) as mapped:
        reader = pa.ipc.open_file(mapped)
        batch = reader.get_batch(0)
        assert (reader.num_record_batches, batch.num_rows) == (1, rows)
        # Beyond 2³¹ numbers, Arrow's own slices of a list count its values with 64 bits.
        assert batch["features"].values[-64:].to_numpy().tolist() == made.features[-1].tolist()
        assert batch["labels"][-3:].to_pylist() == made.labels.tolist()
        del batch, reader


def test_arrays_are_read_only_and_begin_with_pages(tmp_path):
    layout = Layout(3, 2, weighted=True)
    file = SplitFile(tmp_path, "train", 5, layout, MARK)
    file.create()
    file.write(0, encoded(layout, 5))
    found = opened(file, tmp_path, file.complete())
    file.close()
    for values in (found.features, found.ids, found.labels, found.weights):
        assert not values.flags.writeable
        assert values.ctypes.data % mmap.PAGESIZE == 0


def test_all_pages_of_the_rows_are_asked_for_ahead(tmp_path, monkeypatch):
    """In pieces: Linux reads no more than its read-ahead size for one call."""
    layout, rows = Layout(28, 0, weighted=False), 20_000
    file = SplitFile(tmp_path, "train", rows, layout, MARK)
    file.create()
    file.write(0, encoded(layout, rows))
    found = opened(file, tmp_path, file.complete())
    file.close()
    asked = []
    monkeypatch.setattr(columns, "_advise", lambda _, at, size: asked.append((at, size)))
    found.prefetch(5_000, 15_000)
    assert max(size for _, size in asked) <= PIECE
    assert all(at % mmap.PAGESIZE == 0 for at, _ in asked)
    pages = {page for at, size in asked for page in range(at // 4096, -(-(at + size) // 4096))}
    wanted = {
        page
        for span in found.spans
        for page in range(
            (span.offset + 5_000 * span.row_bytes) // 4096, -(-(span.offset + 15_000 * span.row_bytes) // 4096)
        )
    }
    assert pages == wanted
    asked.clear()
    found.prefetch(rows, rows + 10)
    assert asked == []


@pytest.mark.parametrize(
    ("pieces", "reason"),
    [
        ([(0, 4), (6, 10)], "rows 4 to 6 of the train rows were not written"),
        ([(0, 6), (4, 10)], "rows 4 to 6 of the train rows were written twice"),
        ([(0, 9)], "rows 9 to 10 of the train rows were not written"),
        ([], "rows 0 to 10 of the train rows were not written"),
    ],
)
def test_rows_that_are_missing_or_written_twice_are_an_error(pieces, reason, tmp_path):
    layout = Layout(1, 0, weighted=False)
    file = SplitFile(tmp_path, "train", 10, layout, MARK)
    file.create()
    for start, stop in pieces:
        file.write(start, encoded(layout, stop - start))
    with pytest.raises(TrainerError, match=reason):
        file.complete()
    file.close()


def test_rows_of_other_shapes_or_beyond_the_split_are_an_error(tmp_path):
    layout = Layout(2, 1, weighted=False)
    file = SplitFile(tmp_path, "train", 10, layout, MARK)
    file.create()
    with pytest.raises(TrainerError, match=r"features of 3 train rows have the shape \(3, 5\), not \(3, 2\)"):
        file.write(0, encoded(Layout(5, 1, weighted=False), 3))
    with pytest.raises(TrainerError, match=r"ids of 3 train rows have the shape None, not \(3, 1\)"):
        file.write(0, encoded(Layout(2, 0, weighted=False), 3))
    with pytest.raises(TrainerError, match="rows 8 to 11 of 10 train rows do not exist"):
        file.write(8, encoded(layout, 3))
    file.close()


def test_a_number_that_float16_cannot_hold_is_refused_with_its_row(tmp_path):
    layout = Layout(2, 0, weighted=False, half=True)
    file = SplitFile(tmp_path, "train", 10, layout, MARK)
    file.create()
    rows = encoded(layout, 4)
    rows.features[2, 1] = 70_000
    with pytest.raises(UsageError, match=r"training rows: 70000 is beyond what float16 holds, ±65504, at row 8\. Keep"):
        file.write(5, rows)
    file.close()


def test_a_file_that_was_cut_off_or_replaced_is_refused_before_it_is_mapped(tmp_path, monkeypatch):
    layout = Layout(2, 0, weighted=False)
    entries = {}
    for split in ("train", "test"):
        file = SplitFile(tmp_path, split, 100, layout, MARK)
        file.create()
        file.write(0, encoded(layout, 100, random.randrange(9)))
        entries[split] = file.complete()
        file.close()
    monkeypatch.setattr(columns, "_Mapped", None)
    path = tmp_path / "train.arrow"
    content = path.read_bytes()
    for wrong, reason in (
        (content[:-1], "bytes instead of"),
        (content + b"x", "bytes instead of"),
        ((tmp_path / "test.arrow").read_bytes(), "another file|bytes instead of"),
        (bytes(len(content)), "train.arrow is another file"),
    ):
        path.write_bytes(wrong)
        with pytest.raises(Damaged, match=reason):
            opened(file=SimpleNamespace(split="train"), folder=tmp_path, entry=entries["train"])
    path.unlink()
    with pytest.raises(Damaged, match="cannot be opened: No such file"):
        opened(file=SimpleNamespace(split="train"), folder=tmp_path, entry=entries["train"])
