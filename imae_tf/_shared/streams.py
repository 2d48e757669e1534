"""What `fit`, `evaluate` and `predict` are given: arrays and streams of batches, checked.

Arrays are checked at once, a stream batch by batch, before the batches reach the model, where XLA
and replicas could not raise. Whether integers are nearly black is judged by a stream's first
images together, or by all that `predict` takes of a `tf.data.Dataset`: a dark batch later on ends
no epoch.
"""

from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from imae_tf._shared import model_checks
from imae_tf._shared import pixels
from imae_tf.errors import InputError

_ImageShape = tuple[int, int, int]
# So many images are read ahead at most, in search of one that is not nearly black.
FIRST_IMAGES = 1024
_MARK = "_imae_images_are_checked"


class Checked:
  """What a user gives in place of images, and what Keras takes for it.

  Attributes:
    images: The same images, checked, float32 and without labels: an array, or a stream.
  """

  def __init__(self, x: Any, image_shape: _ImageShape):
    """Checks what can be checked at once.

    Args:
      x: What `model_checks.images` takes; a `tf.data.Dataset`, a `keras.utils.PyDataset`, a
        generator or another iterable of batches, which may be (x, label) or dicts. Of a
        `tf.distribute.DistributedDataset` only the first batch is checked, unless `mark_checked`
        was told of it.
      image_shape: (H, W, C).

    Raises:
      InputError: As `model_checks.images`; for a pipeline only what its types and shapes tell.
    """
    self._source = x
    self._image_shape = image_shape
    self._brightness = pixels.Brightness()
    self.images = self._checked(x)

  def _checked(self, x: Any) -> Any:
    if isinstance(x, tf.data.Dataset):
      return _pipeline(x, self._image_shape, self._brightness)
    if isinstance(x, keras.utils.PyDataset):
      return _CheckedPyDataset(x, self._image_shape)
    if isinstance(x, tf.distribute.DistributedDataset):
      if not getattr(x, _MARK, False):
        _check_distributed(x, self._image_shape)
      return x
    x = model_checks.named_images(x, self._image_shape)
    if hasattr(x, "__array__") or isinstance(x, (list, tuple)) or not isinstance(x, Iterable):
      return model_checks.images(x, self._image_shape)
    if isinstance(x, Iterator):
      return ((images,) for images in _batches(x, self._image_shape))
    return tf.data.Dataset.from_generator(
        lambda: _batches(x, self._image_shape),
        output_signature=tf.TensorSpec((None, *self._image_shape), tf.float32),
    )

  def check_first(self, batch_size: int | None) -> None:
    """Raises an `InputError` of no images, of batches of a single one, or of a dark pipeline.

    Looks at the first batches of a data set; a generator can be read only once, and looks itself.
    """
    images, are_all = self.images, True
    if isinstance(self._source, tf.data.Dataset):
      parts = ((model_checks.images_of(data),) for data in self._source)
      sizes = [len(part) for part in _first(parts, self._image_shape, pixels.Brightness(), 2)]
    elif isinstance(images, tf.data.Dataset):
      sizes = [len(batch) for batch in images.take(2)]
    elif isinstance(images, keras.utils.PyDataset):
      count = 2 if images.num_batches is None else min(2, images.num_batches)
      sizes = [len(images[i][0]) for i in range(count)]
      are_all = images.num_batches == 1
    elif isinstance(images, np.ndarray):
      sizes = [min(len(images), batch_size or len(images))]
      are_all = len(images) == 1
    else:
      return
    _check_sizes(sizes, are_all)

  def predicted(self, predict: Callable[[Any], dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """What a function makes of all images, which may be what is wrong with them.

    Raises:
      InputError: There are none, or all are nearly black.
    """
    try:
      found = predict(self.images)
    except UnboundLocalError as error:  # Keras's, of no batches
      if isinstance(self.images, tf.data.Dataset) and not any(True for _ in self.images.take(1)):
        raise _no_images() from error
      raise
    self._brightness.check(count=len(next(iter(found.values()))))
    return found


def _no_images() -> InputError:
  return InputError("expected images, got an empty array or data set; add images.")


def _check_sizes(sizes: list[int], are_all: bool) -> None:
  """Refuses the sizes of the first batches; `are_all`: one of them alone is all that there is."""
  if not sum(sizes):
    raise _no_images()
  if sizes == [1] and are_all:
    raise InputError(
        "expected 2 images or more, got 1; add images: the marginals are averages over the batch"
        " (eq 35)."
    )
  if all(size == 1 for size in sizes):
    raise InputError(
        "expected batches of 2 images or more, got 1; raise batch_size, 128 to 512 works well:"
        " the marginals are averages over the batch (eq 35)."
    )


# ---- distributed data sets ----------------------------------------------------------------------


def mark_checked(distributed: tf.distribute.DistributedDataset) -> None:
  """Tells that the images of a distributed data set were checked where they were read."""
  setattr(distributed, _MARK, True)


def _check_distributed(
    distributed: tf.distribute.DistributedDataset, image_shape: _ImageShape
) -> None:
  """Checks the first batch of this process's replicas, and of it everything but its brightness.

  Every process must read equally many batches, so that none can look for a bright one.
  """
  for data in distributed:
    images = model_checks.images_of(data)
    for part in getattr(images, "values", (images,)):  # for each replica
      _batch(part, image_shape, pixels.Brightness())
    return
  raise _no_images()


# ---- batches in Python --------------------------------------------------------------------------


def _batch(data: Any, image_shape: _ImageShape, brightness: pixels.Brightness) -> np.ndarray:
  """A batch of a stream, checked; `brightness` is told of it and judges it later."""
  parts = data if isinstance(data, (tuple, list)) and data else (data,)
  shapes = [
      tuple(getattr(model_checks.images_of(part) if i == 0 else part, "shape", ()))
      for i, part in enumerate(parts)
  ]
  if shapes[0] == image_shape and image_shape not in shapes[1:] and type(data) is not list:
    raise InputError(
        f"expected batches of images [N, {', '.join(map(str, image_shape))}], got one image at a"
        " time; batch them: let each step give np.stack of 128 images, or give all at once as"
        f" {_all_at_once(data)}."
    )
  return model_checks.images(data, image_shape, brightness)


def _all_at_once(data: Any) -> str:
  """Python that makes an array of a stream x of such elements."""
  image = "[0]" if isinstance(data, tuple) else ""
  first = data[0] if image else data
  if isinstance(first, Mapping):
    image += next(f"[{key!r}]" for key in first if first[key] is model_checks.images_of(first))
  return f"np.stack([part{image} for part in x])"


def _first(
    source: Iterator[Any], image_shape: _ImageShape, brightness: pixels.Brightness, fewest: int = 1
) -> list[np.ndarray]:
  """The first batches: `fewest` or more, up to the first that is not nearly black.

  Raises:
    InputError: All are.
  """
  found: list[np.ndarray] = []
  for data in source:
    found.append(_batch(data, image_shape, brightness))
    is_known = brightness.is_bright or brightness.images >= FIRST_IMAGES
    if is_known and len(found) >= fewest:
      break
  brightness.check()
  return found


def _batches(source: Iterable[Any], image_shape: _ImageShape) -> Iterator[np.ndarray]:
  source, brightness = iter(source), pixels.Brightness()
  first = _first(source, image_shape, brightness)
  if not first:
    raise _no_images()
  while first:
    yield first.pop(0)
  for data in source:
    yield _batch(data, image_shape, brightness)


class _CheckedPyDataset(keras.utils.PyDataset):
  """Another one's batches as float32 images, checked."""

  def __init__(self, source: keras.utils.PyDataset, image_shape: _ImageShape):
    super().__init__(source.workers, source.use_multiprocessing, source.max_queue_size)
    self._source = source
    self._image_shape = image_shape
    count = source.num_batches
    places = range(FIRST_IMAGES if count is None else count)
    if not _first((source[i] for i in places), image_shape, pixels.Brightness()):
      raise _no_images()

  @property
  def num_batches(self) -> int | None:
    return self._source.num_batches

  def __getitem__(self, index: int) -> tuple[np.ndarray]:
    return (_batch(self._source[index], self._image_shape, pixels.Brightness()),)

  def on_epoch_begin(self) -> None:
    self._source.on_epoch_begin()

  def on_epoch_end(self) -> None:
    self._source.on_epoch_end()


# ---- batches in the graph -----------------------------------------------------------------------


def _pipeline(
    dataset: tf.data.Dataset, image_shape: _ImageShape, brightness: pixels.Brightness
) -> tf.data.Dataset:
  spec = model_checks.images_of(dataset.element_spec)
  if not isinstance(spec, tf.TensorSpec):
    raise InputError(
        f"expected batches of images, got elements of {type(spec).__name__}; make them dense"
        " tensors of one shape."
    )
  if not pixels.is_numeric(spec.dtype):
    raise InputError(
        f"expected images of uint8, or of floats in [0, 1], got {spec.dtype.name}; decode or"
        " convert them in the pipeline."
    )
  if spec.shape.rank is not None:
    pixels.check_shape(spec.shape.as_list(), image_shape)

  @tf.autograph.experimental.do_not_convert
  def check(*data: Any) -> tf.Tensor:
    x = model_checks.images_of(data if len(data) > 1 else data[0])
    if spec.shape.rank is None or None in spec.shape[1:]:
      look = lambda value: model_checks.images(value, image_shape, brightness)
      x = tf.numpy_function(look, [x], tf.float32, stateful=False)
      return tf.ensure_shape(x, (None, *image_shape))
    return pixels.checked(x, brightness)

  return dataset.map(check, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
