"""Data sets of images by their TensorFlow Datasets (TFDS) name."""

import dataclasses
import difflib
import os
from collections.abc import Callable
from collections.abc import Iterator
from typing import Any

import numpy as np
import tensorflow as tf

from imae_tf._shared import extras
from imae_tf.data import pipelines
from imae_tf.data import splits
from imae_tf.data import stages
from imae_tf.data.preparation import Preparation
from imae_tf.data.reading import Reading
from imae_tf.errors import first_line
from imae_tf.errors import InputError
from imae_tf.errors import listing

# Records, images encoded, shuffled at a time: about 100 MB of CelebA.
_SHUFFLE_WINDOW = 10_000
# What TFDS itself reads at once, for slow disks.
_READ_BYTES = 2**23
_CELEB_A_CROP, _CELEB_A_SIZE = 148, 64
# Data sets whose images were made from known factors. TFDS writes records in an order
# hashed from their keys, so that their last fifth is like the rest.
_FACTORS = {
    "dsprites": (
        "label_shape", "label_scale", "label_orientation", "label_x_position",
        "label_y_position",
    ),
    "shapes3d": (
        "label_floor_hue", "label_wall_hue", "label_object_hue", "label_scale", "label_shape",
        "label_orientation",
    ),
}


def load(name: str, holdout: int, reading: Reading) -> pipelines.StreamedData:
  """A data set of TFDS, prepared first if it is not yet.

  Args:
    name: That TFDS knows, with a version or configuration if wanted.
    holdout: Number of the last training images that become the split "holdout".
    reading: What is asked for; without an `image_size`, images must be of one size.

  Raises:
    InputError: An unknown name, no images, or no way to prepare it.
    MissingExtraError: TFDS is not installed.
  """
  extras.check("data", f"look up {name!r}, which is no file or folder here")
  builder = _builder(name)
  image_key, class_names = _features(name, builder.name, builder.info.features)
  feature = builder.info.features[image_key]
  shape, prepare, prepared = _preparing(name, builder.name, feature, reading)
  _prepare(name, builder)
  bounds = _bounds(name, builder.info.splits, holdout)
  factor_keys = _FACTORS.get(builder.name, ())
  label_key = _label_key(builder.name) if class_names is not None else None
  source = _records_of(builder, image_key, label_key, factor_keys)
  data = pipelines.StreamedData(
      name,
      shape,
      class_names,
      records={
          split: source.records(f"{stored}[{start}:{stop}]")
          for split, (stored, (start, stop)) in bounds.items()
      },
      split_sizes={split: stop - start for split, (_, (start, stop)) in bounds.items()},
      parse=source.parse,
      decode=lambda encoded: prepare(feature.decode_example(encoded)),
      window=_SHUFFLE_WINDOW,
      factor_names=tuple(key.removeprefix("label_") for key in factor_keys) or None,
      parse_factors=source.factors,
      preparation=prepared,
      stored=repr([
          (split, list(info.shard_lengths), info.num_bytes)
          for split, info in sorted(builder.info.splits.items())
      ]),
  )
  if data.are_dim():
    raise InputError(
        f"expected pixels up to 255, which is white, in the TFDS data set {name!r}, got none above"
        " 1: all would be black; if 1 is white, save them as booleans:"
        f" {_saving(name, image_key, '.astype(bool)')}, and give images.npz."
    )
  return data


def known(name: str) -> bool:
  """Whether TFDS has a data set of this name; none is known where TFDS is not installed."""
  if extras.missing("data"):
    return False
  import tensorflow_datasets as tfds

  return name in tfds.list_builders()


def _builder(name: str) -> Any:
  import tensorflow_datasets as tfds

  try:
    return tfds.builder(name, data_dir=os.environ.get("TFDS_DATA_DIR"))
  except tfds.core.registered.DatasetNotFoundError:
    raise InputError(_unknown_dataset(name, tfds.list_builders())) from None
  except Exception as error:  # TFDS answers a bad name with many types of exceptions.
    raise InputError(
        "expected 'digits', a TFDS name, a .npz or a folder of images, got"
        f" {name!r}, of which TFDS says: {first_line(error)!r}; correct the name."
    ) from error


def _unknown_dataset(name: str, tfds_names: list[str]) -> str:
  close = difflib.get_close_matches(name, ["digits", "shapes", *tfds_names], n=3)
  hint = f"did you mean {' or '.join(map(repr, close))}?" if close else "correct the name."
  return (
      "expected 'digits', 'shapes', a TFDS name (such as 'mnist', 'fashion_mnist' or 'celeb_a'),"
      f" the path of a .npz or a folder of images, got {name!r}; {hint}"
  )


def _prepare(name: str, builder: Any) -> None:
  if builder.is_prepared():
    return
  try:
    builder.download_and_prepare()
  except Exception as error:  # Network, disk, checksums, manual downloads: any type.
    raise InputError(
        f"expected {name!r} prepared in {builder.data_path}, or a download of it, got"
        f" {type(error).__name__}: {first_line(error)!r}; set TFDS_DATA_DIR to a folder that"
        " holds the prepared data set, or run again with network access."
    ) from error


def _features(
    name: str, builder_name: str, features: Any
) -> tuple[str, tuple[str, ...] | None]:
  """The key of the image feature, and the class names or None."""
  import tensorflow_datasets as tfds

  keys = _image_keys(features)
  if not keys:
    raise InputError(
        f"expected a TFDS data set with an image feature, got {name!r} with the features"
        f" {listing(features)}; choose an image data set such as 'mnist'."
    )
  key = "image" if "image" in keys else keys[0]
  if features[key].np_dtype != np.uint8:
    raise InputError(
        f"expected uint8 images, got {np.dtype(features[key].np_dtype)} in the TFDS data set"
        f" {name!r}; save them as a .npz, which may hold such: {_saving(name, key)}."
    )
  label_key = _label_key(builder_name)
  label = dict(features).get(label_key)
  names = tuple(label.names) if isinstance(label, tfds.features.ClassLabel) else None
  return key, names


def _saving(name: str, key: str, after: str = "") -> str:
  """Python that makes a .npz of a data set."""
  return (
      f"x = tfds.as_numpy(tfds.load({name!r}, split='train', batch_size=-1))[{key!r}]{after} and"
      " np.savez('images.npz', x=x)"
  )


def _label_key(builder_name: str) -> str:
  return "label_shape" if builder_name in _FACTORS else "label"


def _image_keys(features: Any) -> list[str]:
  import tensorflow_datasets as tfds

  return [key for key in features if isinstance(features[key], tfds.features.Image)]


def _preparing(
    name: str, builder_name: str, feature: Any, reading: Reading
) -> tuple[tuple[int, int, int], Callable[[tf.Tensor], tf.Tensor], Preparation | None]:
  """The shape of the images handed out, what brings them to it, and what is done to any image."""
  if feature.shape[-1] is None:
    raise InputError(
        f"expected a known number of channels, got the shape {feature.shape} in the TFDS data set"
        f" {name!r}; choose a data set that tells it, or save its images as files in a folder."
    )
  celeb_a, dsprites = builder_name == "celeb_a", builder_name == "dsprites"
  asked = reading.image_size or ((_CELEB_A_SIZE, _CELEB_A_SIZE) if celeb_a else None)
  if asked is None and None in feature.shape:
    raise InputError(
        f"expected images of one size, got the shape {feature.shape} in the TFDS data set"
        f" {name!r}; give an image_size, such as --image_size=64."
    )
  channels = feature.shape[-1]
  if asked is None and reading.color == "auto":
    return tuple(feature.shape), lambda image: image * 255 if dsprites else image, None
  color = ("grey" if channels == 1 else "rgb") if reading.color == "auto" else reading.color
  done = Preparation(asked or tuple(feature.shape[:2]), reading.fit, color)
  if celeb_a:  # only the middle of its own images is the face
    return done.image_shape, lambda image: done(_central_crop(image, _CELEB_A_CROP)), None
  if dsprites:  # stored as 0 and 1
    return done.image_shape, lambda image: done(image * 255), None
  return done.image_shape, done, done


def _central_crop(image: tf.Tensor, size: int) -> tf.Tensor:
  height, width = image.shape[:2]
  top, left = (height - size) // 2, (width - size) // 2
  return image[top : top + size, left : left + size]


def _bounds(
    name: str, infos: Any, holdout: int
) -> dict[str, tuple[str, tuple[int, int]]]:
  """For each split, the stored split that it is cut from and its (start, stop)."""
  if "train" not in infos:
    raise InputError(
        f"expected a split 'train' in the TFDS data set {name!r}, got {listing(infos)};"
        " choose a data set that has one."
    )
  n = infos["train"].num_examples
  cut = splits.train_holdout if "test" in infos else splits.train_test
  stored = {split: ("train", limits) for split, limits in cut(n, holdout).items()}
  if "test" in infos:
    stored["test"] = ("test", (0, infos["test"].num_examples))
  splits.check_sizes(name, {split: limits for split, (_, limits) in stored.items()})
  return stored


@dataclasses.dataclass(frozen=True)
class _Records:
  """How `StreamedData` reads and parses a TFDS data set that TFDS parses record by record.

  Attributes:
    builder: Of the prepared data set.
    image_key: Key of the image feature.
    label_key: Key of the label feature; None without labels.
    factor_keys: Keys of the known factors' features.
  """

  builder: Any
  image_key: str
  label_key: str | None
  factor_keys: tuple[str, ...]

  def records(self, split: str) -> tf.data.Dataset:
    """Dataset of {feature: value} of the image and the label, in file order."""
    import tensorflow_datasets as tfds

    keys = _image_keys(self.builder.info.features)
    examples = self.builder.as_dataset(
        split=split,
        # Encoded images are shuffled, for they are far smaller than decoded ones.
        decoders={key: tfds.decode.SkipDecoding() for key in keys},
        # One file after the other: the order on disk.
        read_config=tfds.ReadConfig(interleave_cycle_length=1, try_autocache=False),
    )
    return examples.map(lambda example: {key: example[key] for key in self._keys})

  def parse(self, batch: Any) -> tuple[tf.Tensor, tf.Tensor]:
    """(encoded images [B], labels int64 [B]) of a batch of records."""
    images = batch[self.image_key]
    if self.label_key is None:
      return images, stages.unlabelled(images)
    return images, batch[self.label_key]

  def factors(self, batch: Any) -> tf.Tensor:
    """int64 [B, F] of a batch of records."""
    return tf.stack([batch[key] for key in self.factor_keys], axis=1)

  @property
  def _keys(self) -> list[str]:
    keys = (self.image_key, self.label_key, *self.factor_keys)
    return list(dict.fromkeys(key for key in keys if key is not None))


class _FileRecords(_Records):
  """The same of a data set whose TFRecord files can be read here and parsed in batches."""

  def records(self, split: str) -> tf.data.Dataset:
    """Dataset of serialized `tf.train.Example`s in file order."""
    parts = self.builder.info.splits[split].file_instructions
    files = tf.data.Dataset.from_tensor_slices((
        [os.fspath(part.filename) for part in parts],
        np.array([part.skip for part in parts], np.int64),
        np.array([part.take for part in parts], np.int64),
    ))
    records = files.flat_map(
        lambda file, skip, take: tf.data.TFRecordDataset(file, buffer_size=_READ_BYTES)
        .skip(skip)
        .take(take)
    )
    # A file that ends early, between two records, is an error.
    count = sum(part.take for part in parts)
    return records.apply(tf.data.experimental.assert_cardinality(count))

  def parse(self, batch: Any) -> tuple[tf.Tensor, tf.Tensor]:
    return super().parse(self._examples(batch))

  def factors(self, batch: Any) -> tf.Tensor:
    return super().factors(self._examples(batch))

  def _examples(self, batch: tf.Tensor) -> dict[str, tf.Tensor]:
    spec = {
        key: tf.io.FixedLenFeature([], tf.string if key == self.image_key else tf.int64)
        for key in self._keys
    }
    return tf.io.parse_example(batch, spec)


class _RandomAccessRecords(_Records):
  """The same of files that TFDS reads in Python alone, such as array_record."""

  def records(self, split: str) -> tf.data.Dataset:
    import tensorflow_datasets as tfds

    keys = _image_keys(self.builder.info.features)
    examples = self.builder.as_data_source(
        split=split, decoders={key: tfds.decode.SkipDecoding() for key in keys}
    )

    def rows() -> Iterator[dict[str, Any]]:
      for place in range(len(examples)):  # in file order
        example = examples[place]
        yield {key: example[key] for key in self._keys}

    signature = {
        key: tf.TensorSpec([], tf.string if key == self.image_key else tf.int64)
        for key in self._keys
    }
    return tf.data.Dataset.from_generator(rows, output_signature=signature)


def _records_of(
    builder: Any, image_key: str, label_key: str | None, factor_keys: tuple[str, ...]
) -> _Records:
  import tensorflow_datasets as tfds

  info = builder.info
  # The types themselves, for a subclass may be stored in another way.
  plain = (
      isinstance(builder, tfds.core.dataset_builder.FileReaderBuilder)
      and info.file_format in (None, tfds.core.FileFormat.TFRECORD)
      and type(info.features[image_key]) is tfds.features.Image
      and all(
          type(info.features[key]) is tfds.features.ClassLabel
          for key in (label_key, *factor_keys) if key is not None
      )
  )
  kind = _FileRecords if plain else _Records
  if info.file_format == tfds.core.FileFormat.ARRAY_RECORD:
    kind = _RandomAccessRecords
  return kind(builder, image_key, label_key, factor_keys)
