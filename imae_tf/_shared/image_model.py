"""A `keras.Model` of images: what `fit`, `evaluate` and `predict` are given is checked first."""

import inspect
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from imae_tf._shared import model_checks
from imae_tf._shared import streams


class ImageModel(keras.Model):
  """Checks images, in any container that Keras takes, against `image_shape` (H, W, C)."""

  image_shape: tuple[int, int, int]

  def fit(
      self, x: Any = None, y: Any = None, batch_size: int | None = None, *args: Any, **kwargs: Any
  ) -> keras.callbacks.History:
    """`keras.Model.fit`; x is what `encode` takes.

    Raises:
      InputError: images of another shape, dtype or range, `batch_size=1`, a compiled loss
        or metric, sample weights.
    """
    if self.compiled:
      model_checks.check_compiled(self)
    kwargs = inspect.signature(super().fit).bind(x, y, batch_size, *args, **kwargs).arguments
    model_checks.check_no_weights(kwargs.get("sample_weight"), kwargs.get("class_weight"))
    with model_checks.told():
      kwargs["x"] = self._given(x, batch_size)
      if kwargs.get("validation_data") is not None:
        validation_batch_size = kwargs.get("validation_batch_size") or batch_size
        kwargs["validation_data"] = self._validation(
            kwargs["validation_data"], validation_batch_size
        )
      return super().fit(**kwargs)

  def evaluate(
      self,
      x: Any = None,
      y: Any = None,
      batch_size: int | None = None,
      verbose: str | int = "auto",
      return_dict: bool = True,
      **kwargs: Any,
  ) -> dict[str, float] | list[float]:
    """As `keras.Model.evaluate`, with the keys of training (`return_dict` is True here).

    Raises:
      InputError: as `fit`.
    """
    with model_checks.told():
      if not kwargs.get("_use_cached_eval_dataset"):  # which `fit` has checked
        x = self._given(x, batch_size)
      return super().evaluate(x, y, batch_size, verbose, return_dict=return_dict, **kwargs)

  def predict(
      self,
      x: Any,
      batch_size: int | None = None,
      verbose: str | int = "auto",
      steps: int | None = None,
      callbacks: Any = None,
  ) -> dict[str, np.ndarray]:
    """As `keras.Model.predict`: the codes of `encode`, which takes the same.

    Raises:
      InputError: as `encode`.
    """
    if steps and isinstance(x, tf.data.Dataset):
      x = x.take(steps)
    with model_checks.told():
      predict = super().predict
      return streams.Checked(x, self.image_shape).predicted(
          lambda images: predict(images, batch_size, verbose, steps, callbacks)
      )

  def _given(self, x: Any, batch_size: int | None) -> Any:
    checked = streams.Checked(x, self.image_shape)
    checked.check_first(batch_size)
    return checked.images

  def _validation(self, data: Any, batch_size: int | None) -> Any:
    """`validation_data`, of which (x, y, weights) has its images checked."""
    if not isinstance(data, (tuple, list)):
      return self._given(data, batch_size)
    model_checks.check_no_weights(*data[2:])
    return (self._given(data[0], batch_size), *data[1:])

  def _batch_of(self, data: Any) -> tf.Tensor:
    """The images [B, H, W, C] of what Keras hands to a step, checked in the graph."""
    return model_checks.batch(data, self.image_shape)
