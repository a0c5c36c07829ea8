"""TensorBoard's event file, written without a thread: errors surface at once, and the file's length is known."""

from __future__ import annotations

import math
import os
import socket
import struct
import time
from collections.abc import Mapping
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import IO, Any

from trainer.atomic import cut_back
from trainer_plugins.tensorboard.tags import HPARAMS, Kind, tag_of

PREFIX = "events.out.tfevents."

_DOUBLE, _FLOAT = struct.Struct("<Bd"), struct.Struct("<f")  # "<" packs without padding


class EventFile:
    """Appends events to one file.

    `name` opens an existing file and cuts it back to `size` bytes first. Raises OSError if a write fails; the file then
    holds whole records only.
    """

    def __init__(self, folder: Path, name: str | None = None, size: int = 0) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.path = folder / (name or f"{PREFIX}{int(time.time()):010d}.{socket.gethostname()}.{os.getpid()}")
        if name is not None:
            cut_back(self.path, size)
        for other in folder.glob(f"{PREFIX}*"):
            # Started after the checkpoint that this file continues from; its events will be written again.
            if name is not None and other != self.path:
                other.unlink()
        self._file: IO[bytes] | None = self.path.open("ab")
        self._whole = os.fstat(self._file.fileno()).st_size
        if self._whole == 0:
            from tensorboardX.proto.event_pb2 import Event

            self._write(Event(wall_time=time.time(), file_version="brain.Event:2"))

    def add(self, kind: Kind, name: str, summary: Any, step: int) -> None:
        """Adds a summary of one value, under the tag of its kind and name."""
        (value,) = summary.value
        value.tag = tag_of(kind, name)
        self._add(summary, step)

    def add_scalars(self, values: Mapping[str, float], step: int) -> None:
        """Adds values by name, as one event."""
        if values:
            self._write_bytes(encoded_scalars(values, step, time.time()))

    def add_session_start(self, hyperparameters: Mapping[str, str | float | bool], started: float) -> None:
        """Adds the run's hyperparameters for the HPARAMS tab.

        TensorBoard takes its columns from the first description of an experiment that it finds. Without one it takes
        the hyperparameters and scalars of all runs, so none is written.
        """
        from tensorboardX.proto.plugin_hparams_pb2 import SessionStartInfo

        start = SessionStartInfo(start_time_secs=started)
        for name, value in hyperparameters.items():
            field = "string" if isinstance(value, str) else "bool" if isinstance(value, bool) else "number"
            setattr(start.hparams[name], f"{field}_value", value)
        self._add_session("session_start_info", start)

    def add_session_end(self, *, succeeded: bool) -> None:
        """Adds how the run ended, for the HPARAMS tab."""
        from tensorboardX.proto.api_pb2 import Status
        from tensorboardX.proto.plugin_hparams_pb2 import SessionEndInfo

        status = Status.Value("STATUS_SUCCESS" if succeeded else "STATUS_FAILURE")
        self._add_session("session_end_info", SessionEndInfo(status=status, end_time_secs=time.time()))

    def add_graph(self, graph: Any) -> None:
        """Adds a GraphDef."""
        from tensorboardX.proto.event_pb2 import Event

        self._write(Event(wall_time=time.time(), graph_def=graph.SerializeToString()))

    def _add_session(self, field: str, info: Any) -> None:
        from tensorboardX.proto.plugin_hparams_pb2 import HParamsPluginData
        from tensorboardX.proto.summary_pb2 import Summary, SummaryMetadata

        content = HParamsPluginData(version=0, **{field: info}).SerializeToString()
        data = SummaryMetadata.PluginData(plugin_name="hparams", content=content)
        value = Summary.Value(tag=f"{HPARAMS}{field}", metadata=SummaryMetadata(plugin_data=data))
        self._add(Summary(value=[value]), 0)

    def _add(self, summary: Any, step: int) -> None:
        from tensorboardX.proto.event_pb2 import Event

        self._write(Event(wall_time=time.time(), step=step, summary=summary))

    def flush(self, *, to_disk: bool = False) -> int:
        """Makes everything visible to readers and returns the file's length in bytes.

        `to_disk` waits until the data would survive a power cut, which takes as long as several steps of a small net.
        """
        assert self._file is not None  # noqa: S101
        try:
            self._file.flush()
            if to_disk:
                os.fsync(self._file.fileno())
        except OSError:
            self._give_up()
            raise
        self._whole = os.fstat(self._file.fileno()).st_size
        return self._whole

    def close(self) -> None:
        """Flushes and closes the file; a second call does nothing."""
        if self._file is not None:
            self.flush(to_disk=True)
            self._file.close()
            self._file = None

    def _write(self, event: Any) -> None:
        """Writes a TFRecord: the length, its checksum, the data, their checksum."""
        self._write_bytes(event.SerializeToString())

    def _write_bytes(self, data: bytes) -> None:
        from tensorboardX.record_writer import masked_crc32c

        if self._file is None:
            return
        length = struct.pack("<Q", len(data))
        record = length + struct.pack("<I", masked_crc32c(length)) + data + struct.pack("<I", masked_crc32c(data))
        try:
            self._file.write(record)
        except OSError:
            self._give_up()
            raise

    def _give_up(self) -> None:
        """Closes the file and cuts off a record that may be incomplete: readers never get past one."""
        file, self._file = self._file, None
        assert file is not None  # noqa: S101
        with suppress(OSError):
            file.close()  # tries once more to write the rest
        with suppress(OSError):
            os.truncate(self.path, self._whole)


def encoded_scalars(values: Mapping[str, float], step: int, wall_time: float) -> bytes:
    """An Event as protobuf writes it. Building it from messages takes four times as long, in every epoch."""
    entries = [_tag(name) + _float32(value) for name, value in values.items()]
    summary = b"".join([b"\x0a" + _varint(len(entry)) + entry for entry in entries])
    # wall_time = 1 (double), step = 2 (left out if 0), summary = 5.
    number = b"\x10" + _varint(step) if step else b""
    return _DOUBLE.pack(0x09, wall_time) + number + b"\x2a" + _varint(len(summary)) + summary


@lru_cache(maxsize=1000)
def _tag(name: str) -> bytes:
    """A Summary.Value without its number: tag = 1, and the key of simple_value = 2 (float)."""
    tag = tag_of("scalar", name).encode()
    return b"\x0a" + _varint(len(tag)) + tag + b"\x15"


def _varint(number: int) -> bytes:
    """A length or a step as protobuf writes it: seven bits per byte, the lowest first."""
    parts = bytearray()
    while number > 127:
        parts.append(number & 127 | 128)
        number >>= 7
    parts.append(number)
    return bytes(parts)


def _float32(value: float) -> bytes:
    try:
        return _FLOAT.pack(value)
    except OverflowError:
        return _FLOAT.pack(math.copysign(math.inf, value))
