"""imae-export: a trained model to the next version of a SavedModel for TF Serving.

The version is written beside its place, loaded and compared with the model, and only then
renamed to the next integer of --base: a server that watches the folder never sees half of it.
"""

import pathlib

from absl import flags
from absl import logging

from imae_tf import program

_WORKDIR = flags.DEFINE_string("workdir", None, "Folder of imae-train.", required=True)
_BASE = flags.DEFINE_string(
    "base", None, "Folder of the versions 1, 2, ...; made if it is not there.", required=True
)
_KEEP = flags.DEFINE_integer(
    "keep", None, "Versions to leave, the new one included; all by default.", lower_bound=1
)


def main():
  # Imported here: --help should not wait for TensorFlow.
  program.import_tensorflow()
  import tensorflow as tf  # pylint: disable=g-import-not-at-top

  from imae_tf import workdir  # pylint: disable=g-import-not-at-top
  from imae_tf.export import publish  # pylint: disable=g-import-not-at-top

  logging.set_verbosity(logging.ERROR)  # exporting logs each renamed input of the graph
  tf.get_logger().setLevel("ERROR")
  model, config = workdir.load_model(_WORKDIR.value)
  figures = pathlib.Path(_WORKDIR.value) / "metrics.json"
  evaluation = workdir.read_json(figures) if figures.exists() else None
  version = publish.publish(
      model, _BASE.value, _KEEP.value, dataset=config.get("dataset"), evaluation=evaluation
  )
  print(f"Published {version}, checked against the model. Its signatures:")
  for name, signature in tf.saved_model.load(str(version)).signatures.items():
    inputs = _specs(signature.structured_input_signature[1])
    print(f"  {name}: {inputs} -> {_specs(signature.structured_outputs)}")
  print(f"Encode: imae-encode --saved_model={_BASE.value} --input=IMAGES.npy --output=CODES.npz")
  base = pathlib.Path(_BASE.value).absolute()
  print(f"Serve:  tensorflow_model_server --model_name=imae --model_base_path={base}"
        " --rest_api_port=8501 --port=8500")


def cli():
  program.run(main)


def _specs(tensors):
  return ", ".join(
      f"{name} [{', '.join('N' if size is None else str(size) for size in spec.shape)}]"
      for name, spec in sorted(tensors.items())
  )


if __name__ == "__main__":
  cli()
