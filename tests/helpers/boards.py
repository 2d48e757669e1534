"""Event files read back with the reader of TensorBoard itself."""

from tensorboard.backend.event_processing import plugin_event_accumulator as event_accumulator
from tensorboard.plugins.hparams import metadata
from tensorboard.plugins.hparams import plugin_data_pb2
from tensorboard.util import tensor_util


def read(folder):
  """{tag: [(step, array)]} of all that a folder's event files hold."""
  reader = event_accumulator.EventAccumulator(str(folder), size_guidance={"tensors": 0})
  reader.Reload()
  return {
      tag: [(e.step, tensor_util.make_ndarray(e.tensor_proto)) for e in reader.Tensors(tag)]
      for tag in reader.Tags()["tensors"]
  }


def hparams_content(folder, tag):
  """What the HPARAMS table keeps of a trial under one of its own tags."""
  reader = event_accumulator.EventAccumulator(str(folder)).Reload()
  content = reader.SummaryMetadata(tag).plugin_data.content
  return plugin_data_pb2.HParamsPluginData.FromString(content)


def weights(folder):
  """{weight: value} that the HPARAMS table shows of a trial."""
  start = hparams_content(folder, metadata.SESSION_START_INFO_TAG).session_start_info
  return {name: getattr(v, v.WhichOneof("kind")) for name, v in start.hparams.items()}
