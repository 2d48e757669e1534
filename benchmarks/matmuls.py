"""The matrix products of a training step and nothing else: the floor of its time.

`products` lists them: the objective's forward and backward pass, VAT's direction (forward,
and back to the images), VAT's loss (forward, and back to the weights), the decoder, the
distances between images and the pairwise sum over categories. A product counts only if no
way of computing the same gradients can leave it out.
"""

import collections
from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

import numpy as np

from benchmarks.problem import Problem

Product = tuple[str, int, int, int, str]  # pass, m, k, n, transposed


def products(problem: Problem) -> dict[Product, int]:
  """{(pass, m, k, n, transposed): times per step}, each [m, k] x [k, n].

  `transposed` is "", "a" (stored [k, m], as in x^T g), or "b" (stored [n, k], as in g W^T).
  """
  size, layers = problem.batch_size, problem.layers
  pixels, k2 = problem.pixels, problem.num_categories
  to_y = [*layers["encoder"], layers["y"]]
  clean, decoder = [*to_y, layers["z"]], layers["decoder"]
  listed = []
  # Images get no gradient in the objective, nor in VAT's loss.
  listed += _forward("clean", size, clean) + _back_to_weights("clean", size, clean)
  listed += _back_to_inputs("clean", size, clean[1:])
  listed += _forward("decoder", size, decoder) + _back_to_weights("decoder", size, decoder)
  listed += _back_to_inputs("decoder", size, decoder)
  listed += _forward("vat direction", size, to_y)
  listed += _back_to_inputs("vat direction", size, to_y)
  listed += _forward("vat loss", size, to_y) + _back_to_weights("vat loss", size, to_y)
  listed += _back_to_inputs("vat loss", size, to_y[1:])
  listed += [("vat radius", size, pixels, size, "b")]
  listed += [("pairwise", size, size, k2, ""), ("pairwise", size, k2, size, "b")]
  listed += [("pairwise", size, size, k2, "a")]
  return dict(collections.Counter(listed))


def gflop(listed: Mapping[Product, int]) -> float:
  """Billions of multiplications and additions of a step."""
  return sum(2e-9 * m * k * n * count for (_, m, k, n, _), count in listed.items())


def tensorflow_candidate(threads: int, problem: Problem) -> dict[str, Callable[[int], Any]]:
  """The harness's factory: all products in one `tf.function`."""
  import tensorflow as tf

  from benchmarks import harness

  harness.limit_threads(threads)
  operands = [
      (tf.constant(a), tf.constant(b), transposed, count, precise)
      for a, b, transposed, count, precise in _operands(problem)
  ]
  if problem.bfloat16:
    operands = [
        (a, b, *rest) if rest[-1] else (tf.cast(a, tf.bfloat16), tf.cast(b, tf.bfloat16), *rest)
        for a, b, *rest in operands
    ]

  @tf.function
  def all_products() -> Any:
    corners: list[Any] = []
    for a, b, transposed, count, _name in operands:
      for _ in range(count):
        # Different attributes keep the graph optimizer from merging equal products.
        with tf.control_dependencies(corners[-1:]):
          product = tf.matmul(
              tf.identity(a), tf.identity(b), transposed == "a", transposed == "b"
          )
        corners.append(product[0, 0])
    return tf.stack([tf.cast(c, tf.float32) for c in corners])

  return {"matmul_floor_tf": lambda steps: [all_products() for _ in range(steps)] and None}


def pytorch_candidate(threads: int, problem: Problem) -> dict[str, Callable[[int], Any]]:
  """The harness's factory: all products, one after the other."""
  import torch

  torch.set_num_threads(threads)
  operands = []
  for a, b, transposed, count, precise in _operands(problem):
    dtype = torch.bfloat16 if problem.bfloat16 and not precise else torch.float32
    a, b = torch.from_numpy(a).to(dtype), torch.from_numpy(b).to(dtype)
    operands += [(a.T if transposed == "a" else a, b.T if transposed == "b" else b)] * count

  @torch.inference_mode()
  def run(steps: int) -> None:
    for _ in range(steps):
      for a, b in operands:
        torch.mm(a, b)

  return {"matmul_floor_pytorch": run}


def _forward(name: str, size: int, layers: Sequence[tuple[int, int]]) -> list[Product]:
  return [(name, size, fan_in, fan_out, "") for fan_in, fan_out in layers]


def _back_to_weights(name: str, size: int, layers: Sequence[tuple[int, int]]) -> list[Product]:
  return [(name, fan_in, size, fan_out, "a") for fan_in, fan_out in layers]


def _back_to_inputs(name: str, size: int, layers: Sequence[tuple[int, int]]) -> list[Product]:
  return [(name, size, fan_out, fan_in, "b") for fan_in, fan_out in layers]


def _operands(problem: Problem) -> Iterator[tuple[np.ndarray, np.ndarray, str, int, bool]]:
  """Yields (a, b, transposed, times per step, whether it stays in float32)."""
  rng = np.random.default_rng(0)
  heads = {problem.latent_dim * 2, problem.num_categories}
  for (name, m, k, n, transposed), count in products(problem).items():
    a = rng.standard_normal((k, m) if transposed == "a" else (m, k)).astype("float32")
    b = rng.standard_normal((n, k) if transposed == "b" else (k, n)).astype("float32")
    head = not name.startswith("decoder") and bool(heads & {m, k, n})
    yield a, b, transposed, count, head or name in ("vat radius", "pairwise")
