"""Time and memory of the pairwise marginals: in blocks, against a plain broadcast.

    python -m benchmarks.pairwise --output=pairwise.json

`estimators.log_marginals` never holds B x B x K1 values; `plain_tf.log_marginals` broadcasts
to them and leaves the rest to automatic differentiation. For every batch size and K1, with
K2 = 10, each is timed forward and forward with the gradients of all its inputs, in turn
(`harness.py`), compiled once for any shape; a call longer than --seconds is made once. The
broadcast is left out where `BROADCAST_TENSORS` tensors of its size would not fit in
--memory_limit_gb.

Memory is what the process's resident memory peaks at above what it was before its first
call at that size, after a call at a small size. Errors are against float64 NumPy on
`CHECKED` rows: the largest absolute one in nats, over all three marginals, and the largest
relative one.
"""

import functools
from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

import numpy as np
from absl import app
from absl import flags
from scipy.special import logsumexp

from benchmarks import harness

FLAGS = flags.FLAGS

NUM_CATEGORIES = 10
CHECKED = 64
BROADCAST_TENSORS = 6  # of [B, B, K1] at once, in the backward pass
TURN_S = 0.2  # small sizes are repeated until a turn takes as long
CALLS = ("forward", "with gradients")


def define_flags() -> None:
  harness.define_flags()
  flags.DEFINE_list("sizes", ["128", "512", "2048", "4096", "8192", "16384"], "B.")
  flags.DEFINE_list("latent_dims", ["10", "64"], "K1.")
  flags.DEFINE_integer("rounds", 7, "Times that each has its turn, at most.", 1)
  flags.DEFINE_float("seconds", 60.0, "For the rounds of one size and call.", 0)
  flags.DEFINE_float("memory_limit_gb", 12.0, "For the broadcast.", 0)


def main(_: object) -> None:
  rows = []
  for latent_dim in map(int, FLAGS.latent_dims):
    for size in map(int, FLAGS.sizes):
      rows += measure(size, latent_dim)
  harness.report(
      "Pairwise marginals",
      {"implementation": "implementation", "K1": "latent_dim", "B": "batch_size",
       "call": "call", "ms": lambda row: 1e3 * row["median_s"], "time / blocks": "median_ratio",
       "MB": lambda row: row["extra_memory_bytes"] / 1e6, "error, nats": "absolute_error"},
      rows,
  )
  harness.save({"num_categories": NUM_CATEGORIES, "rows": rows})


def measure(size: int, latent_dim: int) -> list[dict[str, Any]]:
  """The rows of the table for one size."""
  names = ["blocks"]
  if BROADCAST_TENSORS * 4 * size**2 * latent_dim <= FLAGS.memory_limit_gb * harness.GB:
    names.append("broadcast")
  workers = {
      name: harness.Worker(
          "benchmarks.pairwise:candidate",
          FLAGS.threads,
          implementation=name,
          size=size,
          latent_dim=latent_dim,
      )
      for name in names
  }
  expected = reference(size, latent_dim)
  first, memory, errors = {}, {}, {}
  for name, worker in workers.items():
    calls = {call: worker.call(f"memory {call}") for call in CALLS}
    first[name] = {call: seconds for call, (seconds, _) in calls.items()}
    memory[name] = {call: extra for call, (_, extra) in calls.items()}
    errors[name] = _errors(worker.call("rows")[1], expected)
  rows = []
  for call in CALLS:
    table = _timed(workers, call, {name: first[name][call] for name in names})
    for name in names:
      rows.append({
          "implementation": name,
          "batch_size": size,
          "latent_dim": latent_dim,
          "call": call,
          **table[name],
          "extra_memory_bytes": memory[name][call],
          **errors[name],
      })
  for worker in workers.values():
    worker.close()
  return rows


def _timed(
    workers: Mapping[str, harness.Worker], call: str, first: Mapping[str, float]
) -> dict[str, dict[str, Any]]:
  """The summary of one call, in seconds of a single one; `first` where that is too long."""
  if max(first.values()) > FLAGS.seconds:
    single = {name: [seconds] for name, seconds in first.items()}
    return {name: {**row, "rounds": 1} for name, row in harness.summary(single, "blocks").items()}
  longest = max(worker.seconds(call) for worker in workers.values())
  steps = max(1, round(TURN_S / longest))
  count = int(FLAGS.seconds / (steps * longest * len(workers)))
  timed = {name: functools.partial(w.seconds, call, steps) for name, w in workers.items()}
  seconds = harness.rounds(timed, min(max(count, 1), FLAGS.rounds))
  single = {name: [s / steps for s in values] for name, values in seconds.items()}
  return {
      name: {**row, "rounds": len(single[name])}
      for name, row in harness.summary(single, "blocks").items()
  }


def _errors(rows: Sequence[np.ndarray], expected: Sequence[np.ndarray]) -> dict[str, float]:
  pairs = list(zip(rows, expected, strict=True))
  return {
      "absolute_error": max(float(np.abs(a - b).max()) for a, b in pairs),
      "relative_error": max(float((np.abs(a - b) / np.abs(b)).max()) for a, b in pairs),
  }


def candidate(
    threads: int, implementation: str, size: int, latent_dim: int
) -> dict[str, Callable[[int], Any]]:
  """The harness's factory: {call: run, "memory <call>": bytes, "rows": marginals}."""
  import tensorflow as tf

  from benchmarks import plain_tf
  from imae_tf import estimators

  harness.limit_threads(threads)
  functions = {"blocks": estimators.log_marginals, "broadcast": plain_tf.log_marginals}
  widths = (latent_dim, latent_dim, latent_dim, NUM_CATEGORIES)
  any_size = [tf.TensorSpec([None, width]) for width in widths]
  forward = tf.function(functions[implementation], input_signature=any_size)

  @tf.function(input_signature=any_size)
  def with_gradients(*inputs: Any) -> Any:
    with tf.GradientTape() as tape:
      tape.watch(inputs)
      total = tf.add_n([tf.reduce_sum(m) for m in functions[implementation](*inputs)])
    return tape.gradient(total, inputs)

  compiled = dict(zip(CALLS, (forward, with_gradients)))
  for function in compiled.values():
    function(*map(tf.constant, posteriors(16, latent_dim)))
  inputs = list(map(tf.constant, posteriors(size, latent_dim)))
  before = harness.resident_memory()

  def repeat(function: Callable[..., Any], steps: int) -> None:
    for _ in range(steps):
      result = function(*inputs)
    result[0].numpy()

  def memory(function: Callable[..., Any], _: object) -> int:
    return harness.peak_memory(lambda: repeat(function, 1)) - before

  calls: dict[str, Callable[[int], Any]] = {}
  for name, function in compiled.items():
    calls[name] = functools.partial(repeat, function)
    calls[f"memory {name}"] = functools.partial(memory, function)
  calls["rows"] = lambda _: [m.numpy()[:CHECKED] for m in forward(*inputs)]
  return calls


def posteriors(size: int, latent_dim: int, seed: int = 0) -> list[np.ndarray]:
  """Float32 (z, mean, log_scale, log_y) of random posteriors and one code of each."""
  rng = np.random.default_rng(seed)
  mean = rng.standard_normal((size, latent_dim))
  log_scale = rng.uniform(-2.0, 0.0, (size, latent_dim))
  z = mean + np.exp(log_scale) * rng.standard_normal((size, latent_dim))
  logits = 3.0 * rng.standard_normal((size, NUM_CATEGORIES))
  log_y = logits - logsumexp(logits, axis=1, keepdims=True)
  return [part.astype("float32") for part in (z, mean, log_scale, log_y)]


def reference(size: int, latent_dim: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
  """The marginals of the first `CHECKED` codes in float64, row by row."""
  z, mean, log_scale, log_y = (a.astype("float64") for a in posteriors(size, latent_dim))
  log_p_y = logsumexp(log_y, axis=0) - np.log(size)
  log_p_z, log_p_yz = [], []
  for code in z[:CHECKED]:
    density = -0.5 * ((code - mean) * np.exp(-log_scale)) ** 2 - log_scale
    density -= 0.5 * np.log(2.0 * np.pi)
    log_p_z.append(logsumexp(density, axis=0) - np.log(size))
    log_p_yz.append(logsumexp(density.sum(1)[:, None] + log_y, axis=0) - np.log(size))
  return np.array(log_p_z), log_p_y[None], np.array(log_p_yz)


if __name__ == "__main__":
  define_flags()
  app.run(main)
