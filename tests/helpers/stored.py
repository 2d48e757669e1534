"""Small data sets on disk: folders of images, and real TFDS ones."""

import numpy as np
import PIL.Image
import tensorflow as tf
import tensorflow_datasets as tfds

TINY_IMAGE = tfds.features.Image(shape=(4, 5, 1))
# Of a type that TFDS itself has to parse.
OTHER_IMAGE = tfds.features.LabeledImage(labels=256, shape=(4, 5, 1))


def coded_images(n):
  """Images [N, 4, 5, 1] of which every pixel is the image's number."""
  return np.arange(n, dtype=np.uint8).repeat(20).reshape(n, 4, 5, 1)


def codes(x):
  """The numbers of coded images, from their float pixels."""
  return np.rint(np.asarray(x)[:, 0, 0, 0] * 255).astype(int)


def by_name(loaded):
  """All images of a folder, sorted by the names of their files: float [N, H, W, C]."""
  names = [name for split in loaded.splits for name in loaded.source.names[split]]
  images = np.concatenate([loaded.arrays(split)[0] for split in loaded.splits])
  return images[np.argsort(names)]


def save_folder(folder, images):
  """Grey images as 000.png, 001.png, ... in a folder, which is returned."""
  folder.mkdir(parents=True, exist_ok=True)
  for i, image in enumerate(images):
    PIL.Image.fromarray(image.squeeze()).save(folder / f"{i:03d}.png")
  return folder


def store_tfds(root, name, version, features, splits, **options):
  """Writes a real TFDS data set, `splits` being dicts of arrays."""
  tfds.dataset_builders.store_as_tfds_dataset(
      name=name,
      version=version,
      features=tfds.features.FeaturesDict(features),
      split_datasets={
          split: tf.data.Dataset.from_tensor_slices(arrays) for split, arrays in splits.items()
      },
      data_dir=root,
      disable_shuffling=True,
      **options,
  )


def store_celeb_a(root, train, test):
  """CelebA's own features and version with these images, uint8 [N, 218, 178, 3]."""
  builder = tfds.builder("celeb_a", data_dir=str(root))
  features = dict(builder.info.features)
  splits = {
      split: {
          "image": images,
          **{
              group: {
                  key: np.zeros(len(images), features[group][key].np_dtype)
                  for key in features[group]
              }
              for group in ("attributes", "identity", "landmarks")
          },
      }
      for split, images in (("train", train), ("test", test))
  }
  store_tfds(root, "celeb_a", str(builder.version), features, splits)


def store_tiny(root, image=TINY_IMAGE, **options):
  """A labelled TFDS data set of coded images: 50 to train, 7 to test."""
  features = {"image": image, "label": tfds.features.ClassLabel(names=["even", "odd"])}
  images = coded_images(57)
  splits = {
      "train": {"image": images[:50], "label": np.arange(50) % 2},
      "test": {"image": images[50:], "label": np.arange(50, 57) % 2},
  }
  store_tfds(root, "tiny", "1.0.0", features, splits, **options)
  return "tiny"
