"""The worked examples of CONTRIBUTING.md: what follows of a setting and of a measure by itself."""

import json
import os
import pathlib
import re
import shutil
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parent.parent
PAGE = ROOT / "CONTRIBUTING.md"
pytestmark = pytest.mark.skipif(
    not PAGE.exists(), reason="the site lies in a checkout, which this is not"
)

SETTING = """
import dataclasses, io, json, sys, contextlib
from absl import flags
from imae_tf import recipes
from imae_tf.search import hypermodel
from imae_tf.trainers import run_flags, train
from imae_tf.training import run_folder
from generated import setting_table

flags.FLAGS(["imae-train", "--workdir=w", "--recipe=paper", "--optimizer=adam", "--clipnorm=0.25"])
run = run_flags.run()
sizes = {"num_categories": 3, "latent_dim": 2}
model = recipes.build(
    dataclasses.replace(run.recipe, encoder_units=(4,), decoder_units=(4,)), (4, 4, 1), **sizes,
    seed=0, steps_per_epoch=1,
)
settings = recipes.settings(run.recipe, "imae")
config = {"dataset": "digits", "method": "imae", "recipe": "paper", **sizes, "seed": 0,
          "epochs": settings.pop("epochs"), "settings": settings}
try:
  flags.FLAGS["clipnorm"].parse("-1")
except flags.IllegalFlagValueError as error:
  refused = str(error)
print(json.dumps({
    "help": flags.FLAGS["clipnorm"].help,
    "refused": refused,
    "model": model.optimizer.clipnorm,
    "changed": recipes.with_change(recipes.PAPER, "vae", "clipnorm=0.5").clipnorm,
    "space": dataclasses.asdict(hypermodel.space(["clipnorm"])["clipnorm"]),
    "command": run_folder.command(config),
    "site": setting_table(),
}))
"""

MEASURE = """
import json, types
import numpy as np
from imae_tf import metrics
from imae_tf.metrics import definitions
from generated import number_list

y = np.eye(3, dtype="float32")[[0, 1, 2, 0]] * 0.7 + 0.1
codes = {"y": y, "z": np.zeros((4, 2), "float32"), "z_scale": np.ones((4, 2), "float32")}
model = types.SimpleNamespace(
    encode=lambda x: codes, reconstruction_loss=lambda x: np.zeros(4), likelihood="bernoulli"
)
x = np.linspace(0, 1, 64, dtype="float32").reshape(4, 4, 4, 1)
print(json.dumps({
    "value": metrics.evaluate(model, x)["confidence"],
    "label": definitions.axis("confidence"),
    "site": number_list(),
}))
"""


def example(title):
  """{file: [(old text, new text)]} of the diff below a heading of the page."""
  section = PAGE.read_text().partition(f"## {title}\n")[2].partition("\n## ")[0]
  (diff,) = re.findall(r"```diff\n(.*?)```", section, re.DOTALL)
  changes = {}
  for file in diff.split("--- ")[1:]:
    name, *hunks = file.split("@@\n")
    changes[name.strip()] = [
        tuple("".join(line[1:] for line in hunk.splitlines(True) if line[0] in kept)
              for kept in (" -", " +"))
        for hunk in hunks
    ]
  return changes


@pytest.fixture(scope="module")
def found(tmp_path_factory):
  """What the programs print in a copy of the package with both examples: (setting, measure)."""
  setting, measure = example("Adding a setting"), example("Adding a measure")
  assert list(setting) == ["imae_tf/recipes/settings.py", "imae_tf/recipes/building.py"]
  assert list(measure) == ["imae_tf/metrics/definitions.py", "imae_tf/metrics/measuring.py"]
  return run(tmp_path_factory.mktemp("added"), {**setting, **measure}, SETTING + MEASURE)


def run(folder, changes, code):
  """What `code` prints as JSON, a line each, in a copy of the package with the changes made."""
  package = folder / "imae_tf"
  ignored = shutil.ignore_patterns("__pycache__")
  shutil.copytree(ROOT / "imae_tf", package, ignore=ignored)
  for room in ("trainers", "export"):
    shutil.copytree(ROOT / room, package / room, ignore=ignored)
  for name, hunks in changes.items():
    path = folder / name
    text = path.read_text()
    for old, new in hunks:
      assert text.count(old) == 1, f"CONTRIBUTING.md: {old!r} is not once in {name}"
      text = text.replace(old, new)
    path.write_text(text)
  env = {**os.environ, "PYTHONPATH": f"{folder}:{ROOT / 'docs'}", "TF_CPP_MIN_LOG_LEVEL": "3"}
  done = subprocess.run(
      [sys.executable, "-P", "-c", code], capture_output=True, text=True, cwd=folder, env=env
  )
  assert done.returncode == 0, done.stderr
  return [json.loads(line) for line in done.stdout.splitlines()[-2:]]


def test_a_setting_is_a_field_and_its_use(found):
  found, _ = found
  assert found["help"].endswith("none leaves it. Default: the recipe's.")
  assert "expected a number above 0, or 'none', got '-1'" in found["refused"]
  assert (found["model"], found["changed"]) == (0.25, 0.5)
  assert found["space"] == {"low": 0.1, "high": 10.0, "integer": False}
  assert "--clipnorm=0.25 " in found["command"]
  assert "| `clipnorm` | `none` | a number above 0, or 'none' | 0.1 to 10 |" in found["site"]


def test_a_measure_is_its_definition_and_its_use(found):
  _, found = found
  assert found["value"] == pytest.approx(0.8)
  assert found["label"] == "Confidence"
  assert "**Confidence** `confidence`\n: Mean over images" in found["site"]
