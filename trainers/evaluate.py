"""imae-evaluate: metrics.json, report.html and figures of a trained run.

Example: imae-evaluate --workdir=runs/digits
"""

import pathlib

from absl import flags

from imae_tf import program

_WORKDIR = flags.DEFINE_string("workdir", None, "Folder of imae-train.", required=True)
_SPLIT = flags.DEFINE_string("split", "test", "test, train, or holdout (of a run with --holdout).")


def main():
  # Imported here: --help and a wrong flag should not wait for TensorFlow.
  program.import_tensorflow()
  from imae_tf import evaluation
  from imae_tf import workdir as workdirs

  workdir = pathlib.Path(_WORKDIR.value).expanduser()
  metrics = evaluation.evaluate(workdir, _SPLIT.value)
  print(workdirs.summary(metrics, workdir))


def cli():
  program.run(main)


if __name__ == "__main__":
  cli()
