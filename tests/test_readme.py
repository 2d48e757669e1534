"""The README's figures are those of results/, and its commands exist."""

import importlib.util
import json
import pathlib
import re

import pytest

ROOT = pathlib.Path(__file__).parent.parent
README = ROOT / "README.md"
pytestmark = pytest.mark.skipif(
    not README.exists(), reason="the README lies in a checkout, which this is not"
)


@pytest.fixture(scope="module")
def collect():
  """results/collect.py as a module."""
  path = ROOT / "results" / "collect.py"
  spec = importlib.util.spec_from_file_location("collect", path)
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  return module


def test_tables_are_made_from_results(collect):
  for page in collect.PAGES:
    text = page.read_text()
    assert collect.made(text) == text, "run: python results/collect.py --readme"


def test_commands_are_console_scripts():
  setup = (ROOT / "setup.py").read_text()
  named = set(re.findall(r"\bimae-[a-z]+\b", README.read_text()))
  assert named and all(f"{name} = imae_tf." in setup for name in named)


def test_links_resolve():
  text = README.read_text()
  for target in re.findall(r"\]\(([^)#]+)\)", text) + re.findall(r'src="([^"]+)"', text):
    assert target.startswith("http") or (ROOT / target).exists(), target


def test_two_commands_install_all_that_they_need():
  """.ci/run reads these lines; test_extras.py knows what the extras bring."""
  first, second = re.findall(r"^python3 -m venv .*$", README.read_text(), re.MULTILINE)
  assert "'.[report]'" in first and first.endswith("imae-quickstart")
  assert "'.[test]'" in second and second.endswith("pytest")


def test_seeds_trained_elsewhere_join_those_of_the_same_settings(collect, monkeypatch):
  from imae_tf.comparison import plan

  def row(seeds, values, **changes):
    metrics = {"accuracy": plan.statistics_of(values)}
    return {
        "dataset": "mnist", "method": "imae", "recipe": "tuned", "variant": "", "epochs": 30,
        "n": 100, "settings": {"lam": 5.0}, "num_categories": 10, "latent_dim": 6, "seeds": seeds,
        "metrics": metrics, **changes,
    }

  def added(new, known):
    monkeypatch.setattr(plan, "rows", lambda workdir: new)
    return json.loads(collect.comparison("anywhere", known))

  known = [row([0, 2], [0.5, 0.7]), row([0], [0.1], method="vae")]
  joined, other = added([row([1, 2], [0.6, 0.9])], known)
  assert joined["seeds"] == [0, 1, 2]
  assert joined["metrics"]["accuracy"]["values"] == [0.5, 0.6, 0.9]
  assert joined["metrics"]["accuracy"]["mean"] == pytest.approx(2 / 3, abs=1e-5)
  assert joined["command"].endswith("--datasets=mnist --seeds=0,1,2 --latent_dim=6")
  assert other["seeds"] == [0]
  replaced, _ = added([row([1], [0.6], settings={"lam": 6.0})], known)
  assert replaced["seeds"] == [1]  # figures of other settings would not be comparable
