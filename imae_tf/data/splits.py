"""Which images of a data set train, which are held out, and which test."""

from imae_tf.errors import InputError

# Split name to (start, stop), in file order.
Bounds = dict[str, tuple[int, int]]


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
