"""Images per second of a training step at MNIST's tuned recipe, against its peers.

    python -m benchmarks.step --output=step.json
    python -m benchmarks.step --profile --candidates= --output=profile.json

Candidates, each a process of its own, timed in turn (`harness.py`):

* imae_tf: the model of `recipes.build` through the train function that `fit` compiles.
* imae_tf_deterministic: the same with deterministic operations, as `imae-train` runs it.
* plain_tf, pytorch: the same step by hand (`plain_tf.py`, `pytorch.py`);
  `tests/test_benchmarks.py` shows that their losses and weights are equal.
* matmul_floor_tf, matmul_floor_pytorch: its matrix products alone (`matmuls.py`).

All use images that already lie in memory, a few batches of them in turn. --threads is, for
TensorFlow, both threads per operation and operations at a time, its own choice on a machine
with so many cores, and for PyTorch `torch.set_num_threads`. With mixed_bfloat16 the
networks' products are in bfloat16; parameters, statistics, posterior and objective are in
float32.

--profile times the parts of imae_tf's step alone, each compiled by itself; a part that needs
a gradient includes it. They overlap little, but their sum is not the step's time: operations
of one part run beside those of another, and fuse.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any
from typing import TYPE_CHECKING

from absl import app
from absl import flags

from benchmarks import harness
from benchmarks import matmuls
from benchmarks import problem as problems

if TYPE_CHECKING:
  from imae_tf.models import HybridAutoencoder

FLAGS = flags.FLAGS

PIXELS = (28, 28, 1)
BATCHES = 8  # in memory, used in turn
FACTORIES = {
    "imae_tf": "benchmarks.step:imae_tf",
    "imae_tf_deterministic": "benchmarks.step:imae_tf_deterministic",
    "plain_tf": "benchmarks.plain_tf:candidate",
    "pytorch": "benchmarks.pytorch:candidate",
    "matmul_floor_tf": "benchmarks.matmuls:tensorflow_candidate",
    "matmul_floor_pytorch": "benchmarks.matmuls:pytorch_candidate",
}
PRECISIONS = ("float32", "mixed_bfloat16")


def define_flags() -> None:
  harness.define_flags()
  flags.DEFINE_list("candidates", list(FACTORIES), "Of " + ", ".join(FACTORIES) + ".")
  flags.DEFINE_enum("precision", "both", [*PRECISIONS, "both"], "Of the networks.")
  flags.DEFINE_integer("rounds", 15, "Times that each candidate has its turn.", 1)
  flags.DEFINE_integer("steps", 10, "Training steps of a turn.", 1)
  flags.DEFINE_bool("profile", False, "Time the parts of imae_tf's step, too.")


def main(_: object) -> None:
  figures: dict[str, dict[str, Any]] = {}
  for precision in PRECISIONS if FLAGS.precision == "both" else [FLAGS.precision]:
    figures[precision] = {}
    if FLAGS.candidates:
      figures[precision]["step"] = compare(precision)
    if FLAGS.profile:
      figures[precision]["profile"] = profile(precision)
  packages = ["torch"] if any("pytorch" in name for name in FLAGS.candidates) else []
  harness.save({"rounds": FLAGS.rounds, "steps_per_round": FLAGS.steps, **figures}, packages)


def compare(precision: str) -> dict[str, Any]:
  """Times the candidates; the figures of the step in one precision."""
  problem = problem_of(precision)
  workers = {name: _worker(name, problem) for name in FLAGS.candidates}
  timed = {
      name: functools.partial(worker.seconds, worker.names[0], FLAGS.steps)
      for name, worker in workers.items()
  }
  harness.rounds(timed, 1)  # compiles, and fills the caches
  seconds = harness.rounds(timed, FLAGS.rounds)
  for worker in workers.values():
    worker.close()
  table = harness.summary(seconds, FLAGS.candidates[0])
  listed = matmuls.products(problem)
  gflop = matmuls.gflop(listed)
  for row in table.values():
    row["images_per_s"] = FLAGS.steps * problem.batch_size / row["median_s"]
    row["ms_per_step"] = 1e3 * row["median_s"] / FLAGS.steps
    row["gflop_per_s"] = gflop * FLAGS.steps / row["median_s"]
  harness.report(
      f"Training step, {precision}, {problem.batch_size} images",
      {"candidate": "name", "images/s": "images_per_s", "ms/step": "ms_per_step",
       f"time / {FLAGS.candidates[0]}": "median_ratio", "GFLOP/s": "gflop_per_s"},
      [{"name": name, **row} for name, row in table.items()],
  )
  return {
      "problem": dataclasses.asdict(problem),
      "candidates": table,
      "matmuls": {
          "gflop_per_step": gflop,
          "products": [
              {"pass": n, "m": m, "k": k, "n": cols, "transposed": t, "times": count}
              for (n, m, k, cols, t), count in listed.items()
          ],
      },
  }


def profile(precision: str) -> dict[str, Any]:
  """Times the parts of imae_tf's step; the figures in one precision."""
  worker = harness.Worker("benchmarks.parts:candidate", FLAGS.threads, precision=precision)
  timed = {
      name: functools.partial(worker.seconds, name, FLAGS.steps) for name in worker.names
  }
  harness.rounds(timed, 1)
  table = harness.summary(harness.rounds(timed, FLAGS.rounds), "whole step")
  worker.close()
  for row in table.values():
    row["ms"] = 1e3 * row["median_s"] / FLAGS.steps
  harness.report(
      f"Parts of imae_tf's step, {precision}",
      {"part": "name", "ms": "ms", "share of the step": "median_ratio"},
      [{"name": name, **row} for name, row in table.items()],
  )
  return table


def imae_tf(
    threads: int, problem: problems.Problem, batches: int, deterministic: bool = False
) -> dict[str, Callable[[int], float]]:
  """The harness's factory: the compiled train function of a model, as `fit` calls it."""
  import keras
  import tensorflow as tf

  harness.limit_threads(threads)
  if deterministic:
    tf.config.experimental.enable_op_determinism()
  keras.utils.set_random_seed(0)
  model = build("mixed_bfloat16" if problem.bfloat16 else "float32")
  images = problems.images(problem, batches).reshape(batches, -1, *PIXELS)
  iterator = iter(tf.data.Dataset.from_tensor_slices(images).repeat())
  model.make_train_function()

  def run(steps: int) -> float:
    for _ in range(steps):
      logs = model.train_function(iterator)
    return float(logs["loss"])

  return {"imae_tf": run}


def imae_tf_deterministic(
    threads: int, problem: problems.Problem, batches: int
) -> dict[str, Callable[[int], float]]:
  """The harness's factory: `imae_tf` with deterministic operations."""
  return imae_tf(threads, problem, batches, deterministic=True)


def build(precision: str) -> "HybridAutoencoder":
  """imae_tf's model of the recipe, compiled."""
  from imae_tf import recipes

  recipe = dataclasses.replace(recipes.TUNED["mnist"], precision=precision)
  return recipes.build(
      recipe, PIXELS, num_categories=10, latent_dim=10, seed=0, steps_per_epoch=240
  )


def problem_of(precision: str) -> problems.Problem:
  """The `Problem` of the recipe."""
  from imae_tf import recipes

  pixels = PIXELS[0] * PIXELS[1] * PIXELS[2]
  return problems.from_recipe(
      recipes.TUNED["mnist"], pixels, bfloat16=precision == "mixed_bfloat16"
  )


def _worker(name: str, problem: problems.Problem) -> harness.Worker:
  arguments: dict[str, Any] = {"problem": problem}
  if not name.startswith("matmul"):
    arguments["batches"] = BATCHES
  return harness.Worker(FACTORIES[name], FLAGS.threads, **arguments)


if __name__ == "__main__":
  define_flags()
  app.run(main)
