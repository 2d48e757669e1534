"""imae-evaluate: measures a trained run and writes metrics.json, report.html and figures.

Example: imae-evaluate --workdir=runs/digits
"""

from absl import flags

from imae_tf._shared import paths
from imae_tf._shared import program

_WORKDIR = flags.DEFINE_string(
    "workdir", None, "Folder of the run, as imae-train has written it. Required.", required=True
)
_LABELS = flags.DEFINE_string(
    "labels", None, "Labels of a folder's images, to compare the categories with: folders, the"
    " first folder of an image's path, or a CSV with the columns file and label. Default: those"
    " of imae-train --labels."
)
_SPLIT = flags.DEFINE_string(
    "split", "test", "Images that the run is measured on: test, train, or holdout, the images that"
    " imae-train --holdout kept from training."
)


def main() -> None:
  workdir = paths.folder(_WORKDIR.value, "a --workdir")
  # Imported here: --help and a wrong flag should not wait for TensorFlow.
  program.import_tensorflow()
  from imae_tf.data import labels
  from imae_tf.training import evaluation
  from imae_tf.training import run_folder

  given = labels.canonical(_LABELS.value or "none")
  metrics = evaluation.evaluate(workdir, _SPLIT.value, labels=given)
  print(run_folder.summary(metrics, workdir))


def cli() -> None:
  program.run(main)


if __name__ == "__main__":
  cli()
