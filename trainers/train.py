"""imae-train: trains a model without labels, under --workdir.

Example: imae-train --dataset=digits --workdir=runs/digits

The same command again goes on where a killed run stopped, and gives the same weights.
"""

import pathlib

from absl import flags

from imae_tf._shared import program
from imae_tf.trainers import run_flags

_WORKDIR = flags.DEFINE_string("workdir", None, "Folder of the run.", required=True)
flags.DEFINE_integer("restarts", None, "Short starts; the best without labels goes on.", 1)
flags.DEFINE_integer("restart_epochs", None, "Epochs of a short start.", 1)
flags.DEFINE_enum(
    "restart_score", None, ["neighbors", "agreement"],
    "The best start: of what neighbours share of y, or of agreement with the other starts.",
)
_STRATEGY = flags.DEFINE_enum(
    "strategy",
    "auto",
    ["auto", "none", "mirrored", "multi_worker"],
    "none; all GPUs; the workers of TF_CONFIG; auto: what is there.",
)
flags.adopt_module_key_flags(run_flags)


def main():
  # Imported here: --help and a wrong flag should not wait for TensorFlow.
  program.import_tensorflow()
  from imae_tf.training import distribution
  from imae_tf.training import runs

  run = run_flags.run()
  job = distribution.open_job(_STRATEGY.value)
  runs.train(run, pathlib.Path(_WORKDIR.value).expanduser(), job)
  job.say(f"Trained: {_WORKDIR.value}/model.keras. Next: imae-evaluate --workdir={_WORKDIR.value}")


def cli():
  program.run(main)


if __name__ == "__main__":
  cli()
