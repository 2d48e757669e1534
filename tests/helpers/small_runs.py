"""Runs on a few digits that take a second, for tests of what a folder of a run holds."""

import dataclasses

import numpy as np

from imae_tf import recipes
from imae_tf.training import runs

STEPS = 4  # per epoch, of `store_images`
SMALL = dataclasses.replace(
    recipes.TUNED["digits"],
    encoder_units=(32,), decoder_units=(32,), batch_size=40, epochs=3, restarts=1,
    lam=0.0,  # VAT is most of the time that a fit takes to start
)


def make_run(dataset, **settings):
  return runs.Run(
      dataset=str(dataset), method="imae", recipe_name="tuned",
      recipe=dataclasses.replace(SMALL, **settings),
      num_categories=10, latent_dim=3, holdout=0, seed=5, deterministic=True,
  )


def store_images(folder, digits):
  """The path of a .npz of 200 labelled digits, of which 160 are for training."""
  path = folder / "images.npz"
  np.savez(path, x=digits[0][:200], y=digits[1][:200])
  return path
