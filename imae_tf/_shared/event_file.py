"""Writes event files, which TensorBoard reads: curves, pictures and protocol buffers.

`training.tensorboard` writes them for runs, and `search.hparams` for the trials of a search.
"""

import pathlib
import struct
import time

import tensorflow as tf
from tensorboard.compat.proto import event_pb2
from tensorboard.compat.proto import summary_pb2
from tensorboard.plugins.image import metadata as image_metadata
from tensorboard.plugins.scalar import summary_v2 as scalars_lib
from tensorboard.util import tensor_util

_PATTERN = "events.out.tfevents.*"
LONE_NAME = "events.out.tfevents.0"  # name of a file that is the only event file of its folder


def new_path(folder: str | pathlib.Path) -> pathlib.Path:
  """The path of the next event file of a folder; TensorBoard reads files in this order."""
  return pathlib.Path(folder) / _PATTERN.replace("*", str(time.time_ns()))


def paths(folder: str | pathlib.Path) -> list[pathlib.Path]:
  """The event files of a folder, in the order in which TensorBoard reads them."""
  return sorted(pathlib.Path(folder).glob(_PATTERN))


class EventFile:
  """Writes an event file; each call is on disk when it returns.

  Args:
    path: path of the file.
    first_step: for a run that goes on: TensorBoard drops what earlier files of the folder say about
      this step and later ones. None keeps it.
  """

  def __init__(self, path: str | pathlib.Path, first_step: int | None = None):
    pathlib.Path(path).parent.mkdir(parents=True, exist_ok=True)
    self._writer = tf.io.TFRecordWriter(str(path))
    self._write(event_pb2.Event(file_version="brain.Event:2"))
    if first_step is not None:
      started = event_pb2.SessionLog(status=event_pb2.SessionLog.START)
      self._write(event_pb2.Event(step=first_step, session_log=started))

  def scalars(self, values: dict[str, float], step: int) -> None:
    """Adds points to curves: {tag: value} at a step."""
    summary = summary_pb2.Summary()
    for tag, value in values.items():
      summary.MergeFrom(scalars_lib.scalar_pb(tag, value))
    self.summary(summary, step)

  def picture(self, tag: str, png: bytes, step: int) -> None:
    """Adds a picture, the bytes of a PNG file, under a tag at a step."""
    width, height = struct.unpack(">II", png[16:24])  # a part of its header
    texts = [str(width).encode(), str(height).encode()]
    summary = summary_pb2.Summary()
    summary.value.add(
        tag=tag,
        metadata=image_metadata.create_summary_metadata(None, None),
        tensor=tensor_util.make_tensor_proto([*texts, png]),
    )
    self.summary(summary, step)

  def summary(self, summary: summary_pb2.Summary, step: int) -> None:
    """Adds a protocol buffer, made by TensorBoard's own functions, at a step."""
    event = event_pb2.Event(step=step)
    event.summary.ParseFromString(summary.SerializeToString())  # TensorFlow has a class of its own
    self._write(event)

  def close(self) -> None:
    """Closes the file."""
    self._writer.close()

  def _write(self, event: event_pb2.Event) -> None:
    event.wall_time = time.time()
    self._writer.write(event.SerializeToString())
    self._writer.flush()
