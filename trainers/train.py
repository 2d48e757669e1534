"""imae-train: trains a model without labels, under --workdir.

Example: imae-train --dataset=digits --workdir=runs/digits

If a run is killed, the same command goes on with it and gives the same weights.
"""

import shlex

from absl import flags

from imae_tf._shared import paths
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
    " machines of TF_CONFIG; auto, all that there are. With none and mirrored, TF_CONFIG is not"
    " read.",
)
_JOBS = flags.DEFINE_integer(
    "jobs", None, "Number of starts that train side by side, for --restart_categories, as in the"
    " recipe auto. It changes no figure. Default: one for each core of a CPU, up to eight; one on a"
    " GPU.", lower_bound=1,
)
setting_flags.define(run_flags.OF_STARTS, __name__)
flags.adopt_module_key_flags(run_flags)


def main() -> None:
  workdir = paths.folder(_WORKDIR.value, "a --workdir")
  # Imported here: --help and a wrong flag should not wait for TensorFlow.
  program.import_tensorflow()
  from imae_tf.training import distribution
  from imae_tf.training import runs

  run = run_flags.run(_WORKDIR.value, derived=True)
  job = distribution.open_job(_STRATEGY.value)
  runs.train(run, workdir, job, jobs=_JOBS.value)
  command = shlex.join(["imae-evaluate", f"--workdir={workdir}"])
  job.say(f"Trained: {workdir}/model.keras. Next: {command}")


def cli() -> None:
  program.run(main)


if __name__ == "__main__":
  cli()
