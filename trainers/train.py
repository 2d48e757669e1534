"""imae-train: trains a model without labels, under --workdir.

Example: imae-train --dataset=digits --workdir=runs/digits

If a run is killed, the same command goes on with it and gives the same weights.
"""

import pathlib

from absl import flags

from imae_tf._shared import program
from imae_tf.trainers import run_flags
from imae_tf.trainers import setting_flags

_WORKDIR = flags.DEFINE_string(
    "workdir", None, "Folder that the run is written to; a run that is there goes on. Required.",
    required=True,
)
_STRATEGY = flags.DEFINE_enum(
    "strategy",
    "auto",
    ["auto", "none", "mirrored", "multi_worker"],
    "Devices to train on: none, one device; mirrored, all GPUs of this machine; multi_worker, the"
    " machines of TF_CONFIG; auto, all that there are.",
)
setting_flags.define(run_flags.OF_STARTS, __name__)
flags.adopt_module_key_flags(run_flags)


def main() -> None:
  # Imported here: --help and a wrong flag should not wait for TensorFlow.
  program.import_tensorflow()
  from imae_tf.training import distribution
  from imae_tf.training import runs

  run = run_flags.run(_WORKDIR.value)
  job = distribution.open_job(_STRATEGY.value)
  runs.train(run, pathlib.Path(_WORKDIR.value).expanduser(), job)
  job.say(f"Trained: {_WORKDIR.value}/model.keras. Next: imae-evaluate --workdir={_WORKDIR.value}")


def cli() -> None:
  program.run(main)


if __name__ == "__main__":
  cli()
