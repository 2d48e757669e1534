"""Colour images of 64x64 pixels from TFDS's CelebA, trained and measured by the programs."""

import json

import numpy as np
import programs
import pytest
from stored import store_celeb_a


@pytest.mark.slow  # convolutions of 64x64 pixels
def test_celeb_a_is_trained_by_convolutions(tmp_path):
  """Images in TFDS's own format; two colours are what there is to find."""
  rng = np.random.default_rng(0)
  colours = np.array([[220, 40, 40], [40, 60, 200]])[np.arange(40) % 2]
  images = (colours[:, None, None] + rng.integers(-30, 30, (40, 218, 178, 1))).astype(np.uint8)
  store_celeb_a(tmp_path / "tfds", train=images[:32], test=images[32:])
  flags = {
      "dataset": "celeb_a", "workdir": tmp_path / "run", "epochs": 12, "batch_size": 8,
      "num_categories": 2, "latent_dim": 2,
  }
  env = {"TFDS_DATA_DIR": str(tmp_path / "tfds")}
  for name, given in (("train", flags), ("evaluate", {"workdir": tmp_path / "run"})):
    result = programs.run(name, tmp_path, env=env, **given)
    assert result.status == 0, result.stderr
  config = json.loads((tmp_path / "run/config.json").read_text())
  assert config["image_shape"] == [64, 64, 3] and config["settings"]["network"] == "conv"
  metrics = json.loads((tmp_path / "run/metrics.json").read_text())
  assert metrics["n"] == 8 and metrics["accuracy"] is None
  mean = (images / 255).mean(axis=(0, 1, 2))  # the best guess without looking at an image
  of_mean = -64 * 64 * np.sum(mean * np.log(mean) + (1 - mean) * np.log(1 - mean))
  floor = metrics["reconstruction_floor"]
  assert floor < metrics["reconstruction"] < floor + 0.7 * (of_mean - floor)
