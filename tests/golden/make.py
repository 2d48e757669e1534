"""Makes golden files: a tiny finished run, its SavedModel, and codes (see README.md).

Example: python tests/golden/make.py tests/golden/format-2
"""

import pathlib
import shutil
import subprocess
import sys

import numpy as np

from imae_tf.data import loading
from imae_tf.training import run_folder

TRAIN = (
    "--dataset=digits", "--epochs=30", "--restarts=1", "--encoder_units=16", "--decoder_units=16",
    "--num_categories=5", "--latent_dim=3", "--lam=1", "--learning_rate=0.01",
)


def imae(name, *flags):
  script = pathlib.Path(sys.executable).with_name(f"imae-{name}")
  subprocess.run([script, *flags], check=True)


def main(folder):
  run = folder / "run"
  imae("train", *TRAIN, f"--workdir={run}")
  imae("evaluate", f"--workdir={run}")
  imae("export", f"--workdir={run}", f"--base={folder / 'saved_model'}")
  for part in ("figures", "tensorboard"):  # pictures, which nothing reads
    shutil.rmtree(run / part)
  older, _ = run_folder.checkpoints(run).values()
  for path in (run / "report.html", run / ".lock", older):
    path.unlink()
  model, _ = run_folder.load_model(run)
  x = loading.load("digits").arrays("test")[0][:10]
  np.savez_compressed(folder / "codes.npz", x=x, **model.encode(x))


if __name__ == "__main__":
  main(pathlib.Path(sys.argv[1]))
