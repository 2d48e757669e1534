"""The model card says what the run's files say, and nothing else."""

import dataclasses
import json
import re
import shlex

import pytest
from absl import flags

from imae_tf import recipes
from imae_tf.export import card
from imae_tf.training import run_folder

EVALUATION = {
    "n": 360, "codes": 300, "split": "test", "accuracy": 0.9361, "nmi": 0.871, "ari": 0.852,
    "mi_y": 2.2, "entropy_y": 2.29, "reconstruction": 18.43, "reconstruction_floor": 13.3,
    "mi_z": {"naive": 3.05, "leave_one_out": 3.11},
    "mi_z_per_dimension": {"naive": [1.5, 0.25], "leave_one_out": [1.75, 0.26]},
    "total_correlation": {"naive": 0.88, "leave_one_out": -0.26},
    "used_categories": 4, "active_units": 2,
    "baselines": {"k_means": 0.7361, "ward": 0.8361},
    "seed": 0,
}
DESCRIPTION = {
    "format": 1, "method": "imae", "dataset": "digits", "num_categories": 5, "latent_dim": 2,
    "image_shape": [8, 8, 1], "image_range": [0.0, 1.0],
    "versions": {"imae_tf": "0.1.0", "keras": "3.15.1", "tensorflow": "2.21.0"},
    "evaluation": EVALUATION,
}


def config(method="imae", recipe="tuned", **changes):
  """A config.json of a run, through JSON as in the file."""
  ours = dataclasses.replace(recipes.get(recipe, "digits", method), **changes)
  settings = recipes.settings(ours, method)
  epochs = settings.pop("epochs")
  return json.loads(json.dumps({
      "format": 1, "dataset": "digits", "method": method, "recipe": recipe,
      "recipe_name": recipe, "epochs": epochs, "seed": 7, "holdout": 0, "num_categories": 5,
      "latent_dim": 2, "settings": settings,
  }))


def test_the_figures_are_those_of_the_run_with_n():
  text = card.text(DESCRIPTION, config())
  assert "n = 360 test images (estimates of z and TC: 300 codes)." in text
  for row in (
      "label that suits it best | 0.936 |",
      "I(x;y) [nats] | 2.200 |",
      "Σ I(x;zₖ) [nats] | 3.05 naive, 3.11 leave-one-out |",
      "TC(y,z) [nats] | 0.88 naive, -0.26 leave-one-out |",
      "Reconstruction loss [nats per image], from p(y\\|x) and the mean of z | 18.4 |",
      "accuracy of k means on the same images | 0.736 |",
      "| z0 | 1.50 | 1.75 |",
      "| z1 | 0.25 | 0.26 |",
      "1 of 5 categories have no images, or hardly any",
  ):
    assert row in text, row


def test_every_number_of_the_figures_comes_from_the_run():
  text = card.text(DESCRIPTION)
  known = [json.dumps(EVALUATION)]
  numbers = set()

  def collect(value):
    if isinstance(value, dict):
      for inner in value.values():
        collect(inner)
    elif isinstance(value, list):
      for inner in value:
        collect(inner)
    elif isinstance(value, (int, float)):
      numbers.update(f"{value:.{decimals}f}" for decimals in range(4))

  collect(EVALUATION)
  section = text[text.index("## Figures") : text.index("## Limits")]
  found = re.findall(r"(?<![\w.])-?\d+\.?\d*", section)
  assert len(found) > 15 and set(found) <= numbers, known


def test_what_was_not_measured_is_said_to_be_missing():
  text = card.text({**DESCRIPTION, "evaluation": None, "dataset": None})
  assert "Not measured: run `imae-evaluate`" in text
  assert "## Data\n\nNot recorded." in text
  assert "## Training\n\nNot recorded" in text
  assert "accuracy" not in text and "nan" not in text.lower() and "None" not in text


def test_without_labels_there_is_no_accuracy():
  without = {**EVALUATION, "accuracy": None, "nmi": None, "ari": None, "baselines": None}
  text = card.text({**DESCRIPTION, "evaluation": without}, config())
  assert "Without labels there is no accuracy." in text and "Hungarian" not in text


def test_meaning_use_data_limits_and_versions_are_there():
  text = card.text(DESCRIPTION, {**config(), "holdout": 100}, typical_of=1437)
  assert text.startswith("# IMAE on digits\n\nImages of 8x8 pixels and 1 channel")
  assert "`y` [N, 5]: probabilities p(y|x) of the categories 0 to 4" in text
  assert "`z` [N, 2]" in text and "`x` [N, 8, 8, 1], float32 in [0, 1]" in text
  assert "among 1,437 training images: they are copies of training data" in text
  assert "100 training images were held out" in text
  assert "imae_tf 0.1.0, keras 3.15.1, tensorflow 2.21.0" in text
  titles = re.findall(r"^## (.+)$", text, re.MULTILINE)
  assert {"Intended use", "Data", "Figures", "Limits", "Training", "Versions"} <= set(titles)
  assert "typical_images.npz" not in card.text(DESCRIPTION)


def test_names_of_categories_are_plain_text():
  named = card.text({**DESCRIPTION, "category_names": ["cats", "1", "[dogs] & *", "3", "4"]})
  assert r"- Names that people gave to categories: 0 cats, 2 \[dogs\] \& \*." in named
  assert "Names that people gave" not in card.text(DESCRIPTION)


def test_an_alignment_is_reported_with_its_agreement():
  found = {"n": 360, "before": 0.1, "aligned": 0.9, "best": 0.925}
  record = {"version": 3, "decided_on": "train", "correlation_per_dimension": [0.4, 0.9],
            "agreement": {"test": found}}
  text = card.text({**DESCRIPTION, "alignment": record})
  assert "in the order of version 3, matched on the train images" in text
  assert "| test | 360 | 0.900 | 0.925 | 0.100 |" in text
  assert "matched dimensions, z0 first: 0.40, 0.90." in text


@pytest.mark.parametrize(
    "method,recipe,changes",
    [
        ("imae", "tuned", {}),
        ("imae", "paper", {"beta": 3.5, "epochs": 9, "encoder_units": (30, 20)}),
        ("imae", "tuned", {"detach_y": False, "vat_radius": 2.0, "restarts": 1}),
        ("jointvae", "paper", {"capacity_y": 2.0, "lam": 0.0, "network": "conv"}),
        ("imae", "tuned", {"vat_xi": 7.5, "vat_detach": False, "marginals": "second_batch"}),
        ("imae", "tuned", {"weight_scale": None, "logits_stddev": None, "beta_y": None}),
        ("vae", "paper", {"momentum": 0.5, "learning_rate_decay": 0.9, "weight_scale": 0.1}),
    ],
)
def test_the_command_trains_the_same_run(method, recipe, changes):
  from imae_tf.trainers import run_flags
  from imae_tf.trainers import train  # defines the flags  # noqa: F401

  expected = config(method, recipe, **changes)
  program, *arguments = shlex.split(run_folder.command(expected))
  assert program == "imae-train" and arguments[-1] == "--workdir=WORKDIR"
  flags.FLAGS(["imae-train", *arguments])
  try:
    run = run_flags.run()
  finally:
    flags.FLAGS.unparse_flags()
    for name in [argument.split("=")[0].removeprefix("--") for argument in arguments]:
      flags.FLAGS[name].unparse()
  settings = recipes.settings(run.recipe, method)
  assert settings.pop("epochs") == expected["epochs"]
  assert json.loads(json.dumps(settings)) == expected["settings"]
  assert (run.seed, run.num_categories, run.latent_dim) == (7, 5, 2)
