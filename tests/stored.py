"""Real TFDS data sets on disk, small ones."""

import numpy as np
import tensorflow as tf
import tensorflow_datasets as tfds


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
