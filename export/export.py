"""imae-export: publishes a trained model as the next SavedModel version for TF Serving.

The version is written in a hidden folder, loaded and compared with the model, and only then
renamed to the next integer in --base. So a server that watches --base never sees half of it.

Examples:
  imae-export --workdir=runs/digits --base=models/digits
  imae-export --workdir=runs/newer --base=models/digits --align_to=1 --keep=3
  imae-export --base=models/digits --rollback=1
"""

import contextlib
import math
import pathlib
import shlex
from collections.abc import Sequence
from typing import Any
from typing import TYPE_CHECKING

from absl import flags
from absl import logging

from imae_tf._shared import paths
from imae_tf._shared import program
from imae_tf.export import descriptions

if TYPE_CHECKING:
  import numpy as np

_MAX_IMAGES, _MAX_BYTES = 10_000, 2**30

_WORKDIR = flags.DEFINE_string(
    "workdir", None, "Folder of the run whose model is exported, as imae-train has written it."
    " Required unless --rollback is given."
)
_BASE = flags.DEFINE_string(
    "base", None, "Folder of the versions 1, 2, ... that a server watches. It is made if it is not"
    " there. Required.", required=True
)
_KEEP = flags.DEFINE_integer(
    "keep", None, "Number of newest versions to keep, the new one included. Older ones are deleted."
    " Default: all are kept.", lower_bound=1
)
_ALIGN_TO = flags.DEFINE_integer(
    "align_to",
    None,
    "Number of an old version: the new version gets its order of categories and dimensions, and"
    " its signs, matched on the training images. Default: the order that training gave.",
    lower_bound=0,
)
_ROLLBACK = flags.DEFINE_integer(
    "rollback",
    None,
    "Number of an old version to publish again, in place of --workdir. It becomes the next integer,"
    " because servers take the largest. Default: none, a run is exported.",
    lower_bound=0,
)
_TYPICAL_IMAGES = flags.DEFINE_bool(
    "typical_images",
    True,
    "Put the most typical training images of each category beside the model, to show people what"
    " the category stands for.",
)
flags.register_multi_flags_validator(
    ["workdir", "rollback"],
    lambda values: list(values.values()).count(None) == 1,
    message="expected --workdir, or --rollback in its place; give one of them.",
)
flags.register_multi_flags_validator(
    ["align_to", "rollback"],
    lambda values: None in values.values(),
    message="--align_to needs a model: give it with --workdir, not with --rollback.",
)


def main() -> None:
  old = _ROLLBACK.value
  folder = paths.folder(_WORKDIR.value or "", "a --workdir") if old is None else pathlib.Path()
  # Imported here: --help should not wait for TensorFlow.
  program.import_tensorflow()
  import tensorflow as tf

  from imae_tf.export import publish

  logging.set_verbosity(logging.ERROR)  # exporting logs each renamed input of the graph
  tf.get_logger().setLevel("ERROR")
  if old is not None:
    version = publish.rollback(_BASE.value, old, _KEEP.value)
    print(f"Published {version}, a copy of version {old} that gives the same codes.")
    return
  version = _publish_run(folder)
  print(f"Published {version}, checked against the model. Its signatures:")
  files = "--input=IMAGES.npy --output=CODES.npz"
  with contextlib.suppress(OSError):  # another exporter's --keep may have removed it since
    if "images" in descriptions.read(version):  # it takes images of any size
      files = "--input=FOLDER --output=codes.csv"
    for name, signature in tf.saved_model.load(str(version)).signatures.items():
      inputs = _specs(signature.structured_input_signature[1])
      print(f"  {name}: {inputs} -> {_specs(signature.structured_outputs)}")
  base = shlex.quote(str(version.parent))
  print(f"Encode: imae-encode --saved_model={base} {files}")
  print(f"Serve:  imae-serve --base={base}, or in production")
  base = shlex.quote(str(version.parent.absolute()))
  print(f"        tensorflow_model_server --model_name=imae --model_base_path={base}"
        " --rest_api_port=8501 --port=8500")


def _publish_run(folder: pathlib.Path) -> pathlib.Path:
  """Publishes the model of a run's folder, aligned if asked for; returns its path."""
  from imae_tf._shared import category_names
  from imae_tf._shared import files
  from imae_tf.export import align
  from imae_tf.export import publish
  from imae_tf.export import versions
  from imae_tf.training import run_folder

  model, config = run_folder.load_model(folder)
  names = category_names.of_run(folder, model.num_categories)
  figures = folder / "metrics.json"
  evaluation = files.read_json(figures) if figures.exists() else None
  alignment = None
  if _ALIGN_TO.value is not None:
    versions.get(_BASE.value, _ALIGN_TO.value)  # before images are loaded: it may not be there
    images = _images(folder, config, ["train", "test"])
    alignment = align.to_version(model, _BASE.value, _ALIGN_TO.value, images)
  else:
    images = _images_at_hand(folder, config) if _TYPICAL_IMAGES.value else {}
  version = publish.publish(
      model,
      _BASE.value,
      _KEEP.value,
      alignment,
      dataset=config.get("dataset"),
      evaluation=evaluation,
      images=images.get("train") if _TYPICAL_IMAGES.value else None,
      config=config,
      category_names=names,
  )
  if alignment is not None:
    print(align.summary(alignment.record))
  return version


def _images(
    folder: pathlib.Path, config: dict[str, Any], splits: Sequence[str]
) -> dict[str, "np.ndarray"]:
  """{split: images} of the run's data set, at most 10,000 of each and 1 GiB."""
  from imae_tf.training import run_data

  data = run_data.load(folder, config)
  count = min(_MAX_IMAGES, _MAX_BYTES // (4 * math.prod(data.image_shape)))
  return {split: data.sample(split, count) for split in splits}


def _images_at_hand(
    folder: pathlib.Path, config: dict[str, Any]
) -> dict[str, "np.ndarray"]:
  """The training images; if the data set is not there, prints a line and returns none."""
  from imae_tf.errors import ImaeError

  try:
    return _images(folder, config, ["train"])
  except (ImaeError, OSError) as error:
    print(f"Without typical_images.npz: {error}")
    return {}


def _specs(tensors: dict[str, Any]) -> str:
  return ", ".join(
      f"{name} [{', '.join('N' if size is None else str(size) for size in spec.shape)}]"
      for name, spec in sorted(tensors.items())
  )


def cli() -> None:
  program.run(main)


if __name__ == "__main__":
  cli()
