"""Event files read back with the reader of TensorBoard itself."""

from tensorboard.backend.event_processing import plugin_event_accumulator as event_accumulator
from tensorboard.util import tensor_util


def read(folder):
  """{tag: [(step, array)]} of all that a folder's event files hold."""
  reader = event_accumulator.EventAccumulator(str(folder), size_guidance={"tensors": 0})
  reader.Reload()
  return {
      tag: [(e.step, tensor_util.make_ndarray(e.tensor_proto)) for e in reader.Tensors(tag)]
      for tag in reader.Tags()["tensors"]
  }


def plugin_content(folder, tag):
  """The bytes that a plugin keeps under a tag, as its metadata."""
  reader = event_accumulator.EventAccumulator(str(folder)).Reload()
  return reader.SummaryMetadata(tag).plugin_data.content
