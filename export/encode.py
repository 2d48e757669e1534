"""imae-encode: images to (y, z) codes with a published SavedModel.

The images are a .npy file or a folder of images, both taken whole, or one split of a .npz
file or a data set. The codes go to a .npz file (arrays y, z, z_scale) or to a .csv file.
"""

from absl import flags

from imae_tf import program
from imae_tf.export import versions

_SAVED_MODEL = flags.DEFINE_string(
    "saved_model",
    None,
    "Base folder of imae-export, of which the newest version is taken; or one version.",
    required=True,
)
_INPUT = flags.DEFINE_string(
    "input",
    None,
    "Images: FILE.npy, FILE.npz, a folder, `digits` or a TFDS name such as `mnist`.",
    required=True,
)
_OUTPUT = flags.DEFINE_string(
    "output", None, "File of codes to write: FILE.npz or FILE.csv.", required=True
)
_SPLIT = flags.DEFINE_string("split", "test", "Split of a .npz or a data set.")
_BATCH_SIZE = flags.DEFINE_integer(
    "batch_size", 512, "Images per batch; the codes do not depend on it.", lower_bound=1
)


def main():
  path = versions.find(_SAVED_MODEL.value)
  # Imported here: --help and a mistyped path should not wait for TensorFlow.
  program.import_tensorflow()
  from imae_tf import data  # pylint: disable=g-import-not-at-top
  from imae_tf.export import codes  # pylint: disable=g-import-not-at-top

  codes.check_output(_OUTPUT.value)
  encoder = codes.Encoder(path)
  n, batches = data.input_batches(_INPUT.value, _SPLIT.value, _BATCH_SIZE.value)
  codes.write(_OUTPUT.value, codes.encode_batches(encoder, batches, n))
  print(f"Wrote the codes of {n} images, encoded by {path}, to {_OUTPUT.value}.")


def cli():
  program.run(main)


if __name__ == "__main__":
  cli()
