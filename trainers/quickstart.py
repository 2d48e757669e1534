"""imae-quickstart: runs all steps on one data set, with the commands that a user would type.

It trains, evaluates, exports a SavedModel and encodes the test images with it. It shows each
command before it runs, and at the end the main figures of metrics.json.
"""

import shlex
import subprocess

from absl import flags

from imae_tf._shared import extras
from imae_tf._shared import files
from imae_tf._shared import paths
from imae_tf._shared import program
from imae_tf.errors import ImaeError
from imae_tf.training import run_folder

_DATASET = flags.DEFINE_string(
    "dataset", "digits", "Images to train on and to encode, as in imae-train: digits, shapes, a"
    " TensorFlow Datasets name, a .npz file or a folder of images."
)
_WORKDIR = flags.DEFINE_string(
    "workdir", "runs/quickstart", "Folder that the run, its SavedModel and its codes are written"
    " to."
)


def main() -> None:
  extras.check("report", "draw the report")
  workdir = paths.folder(_WORKDIR.value, "a --workdir")
  base, codes = workdir / "saved_model", workdir / "codes.npz"
  _run("train", dataset=_DATASET.value, workdir=workdir)
  _run("evaluate", workdir=workdir)
  _run("export", workdir=workdir, base=base)
  _run("encode", saved_model=base, input=_DATASET.value, output=codes)
  print("\n" + run_folder.summary(files.read_json(workdir / "metrics.json"), workdir))
  print(f"SavedModel      {base}")
  print(f"codes           {codes}")


def _run(name: str, **flag_values: object) -> None:
  arguments = [f"--{flag}={value}" for flag, value in flag_values.items()]
  print(f"\n$ imae-{name} {shlex.join(arguments)}", flush=True)
  room = "export" if name in ("export", "encode") else "trainers"
  command = program.command(f"imae_tf.{room}.{name}", f"imae-{name}")
  if subprocess.run([*command, *arguments]).returncode:
    raise ImaeError(f"imae-{name} failed, see above; mend it and run imae-quickstart again.")


def cli() -> None:
  program.run(main)


if __name__ == "__main__":
  cli()
