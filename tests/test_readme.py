"""The README's figures are those of results/, and its commands exist."""

import importlib.util
import pathlib
import re

import pytest

ROOT = pathlib.Path(__file__).parent.parent
README = ROOT / "README.md"
pytestmark = pytest.mark.skipif(
    not README.exists(), reason="the README lies in a checkout, which this is not"
)


def test_tables_are_made_from_results():
  path = ROOT / "results" / "collect.py"
  spec = importlib.util.spec_from_file_location("collect", path)
  collect = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(collect)
  for page in (collect.README, collect.COMPARE):
    text = page.read_text()
    assert collect.made(text) == text, "run: python results/collect.py --readme"


def test_commands_are_console_scripts():
  setup = (ROOT / "setup.py").read_text()
  named = set(re.findall(r"\bimae-[a-z]+\b", README.read_text()))
  assert named and all(f"{name} = imae_tf." in setup for name in named)


def test_links_resolve():
  for target in re.findall(r"\]\(([^)#]+)\)", README.read_text()):
    assert target.startswith("http") or (ROOT / target).exists(), target
