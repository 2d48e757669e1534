"""Holds a model's categories against those of simple methods, with labels and without.

`training.evaluation` measures, and the page and the last lines of `imae-evaluate` say in plain
words where the categories carry little, or where a simple method looks better.
"""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from imae_tf.metrics import clustering
from imae_tf.metrics import definitions
from imae_tf.metrics import label_free

_LITTLE = 0.15  # of ln K2
_CLEARLY = 0.02  # nats by which a simple method must be ahead


def compared(
    categories: Mapping[str, np.ndarray], seen: np.ndarray, labels: np.ndarray | None
) -> dict[str, dict[str, float | None]]:
  """Scores of each method's categories of the same images.

  Args:
    categories: {method: [N] integers}.
    seen: [N, ...], that by which images are near: their pixels, or what y's layers see of them.
    labels: [N] integers or None.

  Returns:
    {method: {"accuracy", "nmi", "ari", "near_mi_y"}}; the first three are None without labels.
    near_mi_y is `label_free.neighbor_information`, in nats.

  >>> place = np.arange(60)  # near in their numbers
  >>> found = compared({"halves": place // 30, "parity": place % 2}, place[:, None], None)
  >>> found["halves"]["near_mi_y"] > 0.3 > found["parity"]["near_mi_y"]
  True
  """
  neighbors = label_free.nearest_images(seen)
  return {
      name: {
          **{key: value for key, value in clustering.scores(labels, found).items()
             if key != "mi_y_label"},
          "near_mi_y": label_free.neighbor_information(found, neighbors),
      }
      for name, found in categories.items()
  }


def remarks(metrics: Mapping[str, Any], num_categories: int) -> list[str]:
  """Sentences for people about categories that carry little, or less than a simple method's.

  Args:
    metrics: content of metrics.json.
    num_categories: K2.

  >>> remarks({"mi_y": 0.01}, 10)[0][:57]
  'The categories carry little: I(x;y) is 0.01 of at most 2.'
  """
  found = []
  most = math.log(num_categories)
  if metrics["mi_y"] < _LITTLE * most:
    found.append(
        f"The categories carry little: {definitions.label('mi_y')} is {metrics['mi_y']:.2f} of at"
        f" most {most:.2f} nats, so most images are in one category or undecided. Train with"
        " another seed or another number of categories, unless nearly all images are of one kind."
    )
  methods = dict(metrics.get("simple_methods") or {})
  own = methods.pop("model", None)
  if own and methods:
    best = max(methods, key=lambda name: methods[name]["near_mi_y"])
    ahead = methods[best]["near_mi_y"]
    if ahead > own["near_mi_y"] + _CLEARLY:
      found.append(
          f"A simple method may be better here: images that look alike share {ahead:.2f} nats of"
          f" their cluster by {best.replace('_', ' ')}, and {own['near_mi_y']:.2f} nats of this"
          " model's category. No label was used for these figures."
      )
  return found
