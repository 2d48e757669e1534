"""What every builder of networks checks, and the batch normalisation that all use."""

from collections.abc import Sequence
from typing import Any

from imae_tf.errors import InputError

# 0.9 is PyTorch's value: with Keras's 0.99 the statistics of a small data set lag epochs behind
# the weights. `synchronized` makes replicas use the statistics of the global batch.
BATCH_NORM: dict[str, Any] = {"momentum": 0.9, "synchronized": True}


def check_image_shape(image_shape: Sequence[int]) -> None:
  """Raises an `InputError` unless `image_shape` is (H, W, C)."""
  if len(image_shape) != 3 or min(image_shape) < 1:
    raise InputError(
        f"expected image_shape as (height, width, channels), got {image_shape!r}; correct it."
    )
