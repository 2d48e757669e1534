"""Seconds from the start of a process: to an import, to --help, to the first training step.

    python -m benchmarks.startup --output=startup.json

Every measurement is a fresh process. Rounds start each once, in turn; the first round, which
fills the disk's cache, does not count. What imae_tf stands on, imported alone, stands beside
it; of TensorFlow Probability that is its distributions, because the package itself loads
nothing. A first training step includes loading the data set and compiling: for `digits`,
and for `mnist` if it lies in TFDS_DATA_DIR.
"""

import functools
import os
import pathlib
import subprocess
import sys
import time

from absl import app
from absl import flags

from benchmarks import harness

FLAGS = flags.FLAGS

IMPORTS = ("tensorflow", "keras", "tensorflow_probability.python.distributions", "imae_tf",
           "imae_tf.models")
REFERENCE = "import tensorflow"
PROGRAM = "imae-train"


def define_flags() -> None:
  harness.define_flags()
  flags.DEFINE_integer("rounds", 5, "Processes of each kind.", 1)


def main(_: object) -> None:
  timed = {
      name: functools.partial(seconds, command) for name, command in commands().items()
  }
  harness.rounds(timed, 1)
  table = harness.summary(harness.rounds(timed, FLAGS.rounds), REFERENCE)
  harness.report(
      "From the start of a process",
      {"to": "name", "seconds": "median_s", "least": "min_s", "most": "max_s",
       f"time / {REFERENCE}": "median_ratio"},
      [{"name": name, **row} for name, row in table.items()],
  )
  harness.save({"rounds": FLAGS.rounds, "candidates": table})


def commands() -> dict[str, list[str]]:
  """{name: arguments of the process}."""
  def python(code: str) -> list[str]:
    return [sys.executable, "-c", code]

  listed = {"python alone": python("pass")}
  listed.update((f"import {name}", python(f"import {name}")) for name in IMPORTS)
  program = "from imae_tf.trainers.train import cli; cli()"
  listed[f"{PROGRAM} --help"] = [*python(program), "--help"]
  for dataset in datasets():
    first = f"from benchmarks import startup; startup.first_step({dataset!r})"
    listed[f"first step of {dataset}"] = python(first)
  return listed


def datasets() -> list[str]:
  """The data sets that need no download."""
  folder = os.environ.get("TFDS_DATA_DIR")
  return ["digits", "mnist"] if folder and pathlib.Path(folder, "mnist").is_dir() else ["digits"]


def seconds(command: list[str]) -> float:
  """Seconds until the process ends. --help ends in 1, as absl has it; its text must come."""
  quiet = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
  start = time.perf_counter()
  ended = subprocess.run(command, env=quiet, capture_output=True, text=True, check=False)
  elapsed = time.perf_counter() - start
  failed = PROGRAM not in ended.stdout if "--help" in command else ended.returncode
  if failed:
    raise RuntimeError(f"{command} failed:\n{ended.stderr}")
  return elapsed


def first_step(dataset: str) -> None:
  """Loads a data set, builds its recipe's model, trains one step and leaves at once."""
  import keras

  from imae_tf import recipes
  from imae_tf.data import loading

  keras.utils.set_random_seed(0)
  recipe = recipes.get("tuned", dataset)
  data = loading.load(dataset)
  batches = data.train_batches(recipe.batch_size, seed=0)
  model = recipes.build(
      recipe,
      data.image_shape,
      num_categories=10,
      latent_dim=10,
      seed=0,
      steps_per_epoch=data.steps_per_epoch(recipe.batch_size),
  )
  model.fit(batches, steps_per_epoch=1, verbose=0)
  os._exit(0)  # the end of the step is what counts, not that of the threads


if __name__ == "__main__":
  define_flags()
  app.run(main)
