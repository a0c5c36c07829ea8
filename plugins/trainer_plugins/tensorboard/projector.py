"""Embeddings of categories as files for TensorBoard's projector."""

from __future__ import annotations

import re
from pathlib import Path

from trainer import Run
from trainer.atomic import write_atomic

CONFIG = "projector_config.pbtxt"
"""The name by which TensorBoard finds the files."""
FOLDER = "embeddings"
ENTRY = """embeddings {{
  tensor_name: "{name}"
  tensor_path: "{tensor}"
  tensor_shape: {rows}
  tensor_shape: {units}
  metadata_path: "{names}"
}}
"""


def write_embeddings(folder: Path, run: Run, most: int) -> None:
    """Writes the `most` most frequent categories of each column with an embedding; nothing if there is none.

    Waits for the device. Raises OSError.
    """
    found = run.task.embeddings(most) if most else ()
    values = run.copy_weights() if found else {}
    entries: list[str] = []
    for number, each in enumerate(found):
        weights = values.get(each.parameter)
        if weights is None or not each.names:
            continue
        rows = weights[each.first : each.first + len(each.names)]
        tensor, names = f"{FOLDER}/{number}.weights.tsv", f"{FOLDER}/{number}.names.tsv"
        (folder / FOLDER).mkdir(exist_ok=True)
        # Not as bytes: TensorBoard takes those for text if they happen to be UTF-8.
        write_atomic(folder / tensor, "".join("\t".join(f"{value:.9g}" for value in row) + "\n" for row in rows))
        write_atomic(folder / names, "".join(f"{_in_a_line(name)}\n" for name in each.names))
        entries.append(
            ENTRY.format(name=_quoted(each.column), tensor=tensor, names=names, rows=len(rows), units=rows.shape[1])
        )
    if entries:
        write_atomic(folder / CONFIG, "".join(entries))


def _in_a_line(name: str) -> str:
    """A name without what ends a line or a field of the file."""
    return re.sub(r"\s", " ", name)


def _quoted(name: str) -> str:
    """A name within the quotes of a text protocol buffer."""
    return "".join(each if each.isprintable() else " " for each in name).replace("\\", "\\\\").replace('"', '\\"')
