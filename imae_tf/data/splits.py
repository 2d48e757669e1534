"""Which images of a data set train, which are held out, and which test."""

from collections.abc import Sequence
from typing import Literal
from typing import NamedTuple

import numpy as np

from imae_tf.errors import InputError

# Split name to (start, stop), in file order.
Bounds = dict[str, tuple[int, int]]
# Split name to places in file order.
Rows = dict[str, np.ndarray]


class Stored(NamedTuple):
  """The split of a run by the names of its files.

  Attributes:
    test: Names of the test images.
    holdout: Names of the held-out ones.
  """

  test: tuple[str, ...]
  holdout: tuple[str, ...] = ()


# "random", a seeded fifth; "in_order", the last fifth by path, as earlier versions split folders;
# "whole", one split "all"; or what a run has stored.
Rule = Literal["random", "in_order", "whole"] | Stored


def train_test(n: int, holdout: int) -> Bounds:
  """The first 80% (rounded down) for "train" and "holdout", the rest for "test".

  >>> train_test(1797, holdout=200)
  {'train': (0, 1237), 'holdout': (1237, 1437), 'test': (1437, 1797)}
  """
  first_test = n * 4 // 5
  return train_holdout(first_test, holdout) | {"test": (first_test, n)}


def train_holdout(n: int, holdout: int) -> Bounds:
  """All for "train" but the last `holdout`, where there are any.

  Raises:
    InputError: `holdout` is negative.

  >>> train_holdout(10, holdout=3)
  {'train': (0, 7), 'holdout': (7, 10)}
  """
  if holdout < 0:
    raise InputError(f"expected a holdout of 0 or more images, got {holdout}; raise it.")
  if not holdout:
    return {"train": (0, n)}
  return {"train": (0, n - holdout), "holdout": (n - holdout, n)}


def of_files(names: Sequence[str], holdout: int, rule: Rule) -> Rows:
  """The places of the files of each split, by a rule.

  In a folder sorted by class, the last fifth would be the last classes alone. So the test images
  are a fixed random fifth, and the held-out ones are drawn with them: each split has every class.
  A split is in random order itself, so that its first images stand for all of it.

  Args:
    names: Of the files, in file order.
    holdout: Number of training images to hold out.
    rule: `Rule`.

  Raises:
    InputError: `holdout` is negative, or a file of a stored split is not there.

  >>> {split: rows.tolist() for split, rows in of_files("abcde", 1, "random").items()}
  {'train': [4, 3, 1], 'holdout': [0], 'test': [2]}
  """
  if rule == "whole":
    return {"all": np.arange(len(names))}
  # The legacy generator, whose streams NumPy promises never to change.
  order = np.random.RandomState(0).permutation(len(names))[::-1]
  if isinstance(rule, Stored):
    return _stored(names, order, rule)
  if rule == "in_order":
    order = np.arange(len(names))
  bounds = train_test(len(names), holdout)
  return {split: order[max(start, 0) : max(stop, 0)] for split, (start, stop) in bounds.items()}


def _stored(names: Sequence[str], order: np.ndarray, rule: Stored) -> Rows:
  place_of = {name: place for place, name in enumerate(names)}
  gone = [name for name in (*rule.test, *rule.holdout) if name not in place_of]
  if gone:
    raise InputError(
        f"expected the test and held-out images of the run, got {len(gone)} of them no longer"
        f" readable, the first {gone[0]}; put them back, or train again in another --workdir."
    )
  rows = {"test": np.array([place_of[name] for name in rule.test], np.int64)}
  if rule.holdout:
    rows["holdout"] = np.array([place_of[name] for name in rule.holdout], np.int64)
  kept = np.concatenate(list(rows.values()))
  return {"train": order[~np.isin(order, kept)], **rows}  # in the order of the first training


def check_sizes(name: str, bounds: Bounds) -> None:
  """Refuses fewer than 2 training images, or no test image, where there are such splits.

  Raises:
    InputError: There are too few; the message calls the data set `name`.
  """
  sizes = {split: max(0, stop - start) for split, (start, stop) in bounds.items()}
  if sizes.get("train", 2) < 2 or sizes.get("test", 1) < 1:
    raise InputError(
        f"expected at least 2 training images and 1 test image in {name!r}, got"
        f" {sizes['train']} and {sizes['test']}; add images or lower the holdout."
    )


def too_few_to_evaluate(name: str, sizes: dict[str, int]) -> str | None:
  """One line, where there is a single test image: a figure compares two. Else None.

  >>> too_few_to_evaluate("pictures", {"train": 4, "test": 1})
  "1 test image in 'pictures': a run can be trained, but not evaluated, which takes 2; add images."
  """
  if sizes.get("test") != 1:
    return None
  return (
      f"1 test image in {name!r}: a run can be trained, but not evaluated, which takes 2; add"
      " images."
  )
