"""Seconds and memory of all pairwise metrics over a data set of MNIST's size.

    python -m benchmarks.evaluation --output=evaluation.json

`dataset_information.information` on random posteriors of 60,000 images (K1 = K2 = 10): the
marginals of 10,000 codes under all 60,000 posteriors, naive and leave-one-out, and every term that
follows from them. The first call, which compiles, is reported by itself; the others' median
is the time. Memory is what the process's resident memory peaks at above what it was before
the first call.
"""

import statistics
from collections.abc import Callable
from typing import Any

import numpy as np
from absl import app
from absl import flags

from benchmarks import harness

FLAGS = flags.FLAGS


def define_flags() -> None:
  harness.define_flags()
  flags.DEFINE_integer("images", 60_000, "Posteriors.", 2)
  flags.DEFINE_integer("latent_dim", 10, "K1.", 1)
  flags.DEFINE_integer("rounds", 3, "Calls after the first.", 1)


def main(_: object) -> None:
  worker = harness.Worker(
      "benchmarks.evaluation:candidate",
      FLAGS.threads,
      images=FLAGS.images,
      latent_dim=FLAGS.latent_dim,
  )
  first_s, (memory, codes) = worker.call("first call")
  seconds = [worker.seconds("again") for _ in range(FLAGS.rounds)]
  worker.close()
  figures = {
      "images": FLAGS.images,
      "codes": codes,
      "latent_dim": FLAGS.latent_dim,
      "first_call_s": first_s,
      "median_s": statistics.median(seconds),
      "rounds_s": seconds,
      # Two estimates of each pair.
      "pairs_per_s": 2 * codes * FLAGS.images / statistics.median(seconds),
      "extra_memory_bytes": memory,
  }
  harness.report(
      "All pairwise metrics",
      {"images": "images", "codes": "codes", "seconds": "median_s", "first call": "first_call_s",
       "MB": lambda row: row["extra_memory_bytes"] / 1e6, "pairs/s": "pairs_per_s"},
      [figures],
  )
  harness.save(figures)


def candidate(threads: int, images: int, latent_dim: int) -> dict[str, Callable[[int], Any]]:
  """The harness's factory: "first call" returns (bytes, number of codes)."""
  harness.limit_threads(threads)
  from imae_tf.metrics import dataset_information

  rng = np.random.default_rng(0)
  logits = 3.0 * rng.standard_normal((images, 10))
  y = np.exp(logits - np.logaddexp.reduce(logits, axis=1, keepdims=True)).astype("float32")
  mean = rng.standard_normal((images, latent_dim)).astype("float32")
  scale = rng.uniform(0.1, 1.0, (images, latent_dim)).astype("float32")
  before = harness.resident_memory()

  def again(_: object = None) -> None:
    dataset_information.information(y, mean, scale)

  def first(_: object) -> tuple[int, int]:
    return harness.peak_memory(again) - before, min(images, dataset_information.MAX_CODES)

  return {"first call": first, "again": again}


if __name__ == "__main__":
  define_flags()
  app.run(main)
