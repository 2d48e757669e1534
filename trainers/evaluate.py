"""imae-evaluate: metrics.json, report.html and figures of a trained run.

Example: imae-evaluate --workdir=runs/digits
"""

import pathlib

from absl import flags

from imae_tf._shared import program

_WORKDIR = flags.DEFINE_string("workdir", None, "Folder of imae-train.", required=True)
_SPLIT = flags.DEFINE_string("split", "test", "test, train, or holdout (of a run with --holdout).")


def main():
  # Imported here: --help and a wrong flag should not wait for TensorFlow.
  program.import_tensorflow()
  from imae_tf.training import evaluation
  from imae_tf.training import run_folder

  workdir = pathlib.Path(_WORKDIR.value).expanduser()
  metrics = evaluation.evaluate(workdir, _SPLIT.value)
  print(run_folder.summary(metrics, workdir))


def cli():
  program.run(main)


if __name__ == "__main__":
  cli()
