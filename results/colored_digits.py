"""10,000 digits of MNIST with a random hue for the ink and another for the ground, 28x28 RGB.

    TFDS_DATA_DIR=... python results/colored_digits.py colored.npz
    imae-train --dataset=colored.npz --num_categories=10 --workdir=W && imae-evaluate --workdir=W

Color says nothing of the digit, and most of what differs between two images is color: methods that
cluster pixels fail (Monnier et al., "Deep transformation-invariant clustering", NeurIPS 2020).
"""

import colorsys
import sys

import numpy as np
import tensorflow_datasets as tfds

COUNT = 10_000
NEAREST = 0.6  # of the ink's and the ground's colors, sum of |difference| over channels in [0, 1]

rng = np.random.default_rng(0)


def colors(count):
  """[count, 3] in [0, 1], of random hue and rather bright."""
  hues, saturations, values = rng.random(count), *rng.uniform(0.6, 1.0, (2, count))
  return np.array([colorsys.hsv_to_rgb(*color) for color in zip(hues, saturations, values)])


digits, labels = tfds.as_numpy(
    tfds.load("mnist", split=f"train[:{COUNT}]", batch_size=-1, as_supervised=True)
)
ink, ground = colors(COUNT), colors(COUNT)
while (alike := np.abs(ink - ground).sum(axis=1) < NEAREST).any():
  ground[alike] = colors(alike.sum())
share = digits / 255.0  # of ink
x = share * ink[:, None, None] + (1.0 - share) * ground[:, None, None]
np.savez(sys.argv[1], x=np.round(255.0 * x).astype("uint8"), y=labels)
