"""Which images of a data set train, which are held out, and which test."""

from imae_tf.errors import InputError

# Split name to (start, stop), in file order.
Bounds = dict[str, tuple[int, int]]


def train_test(n: int, holdout: int) -> Bounds:
  """The first 80% (rounded down) for "train" and "holdout", the rest for "test"."""
  first_test = n * 4 // 5
  return train_holdout(first_test, holdout) | {"test": (first_test, n)}


def train_holdout(n: int, holdout: int) -> Bounds:
  """All for "train" but the last `holdout`, where there are any.

  Raises:
    InputError: `holdout` is negative.
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
