"""What the programs say to --help: each flag in a sentence, with its default, and at once."""

import pathlib
import re
import subprocess
import sys

import pytest

import imae_tf

SETUP = pathlib.Path(imae_tf.__file__).parent.parent / "setup.py"
pytestmark = pytest.mark.skipif(not SETUP.exists(), reason="not in a checkout")
PROGRAMS = re.findall(r'"(imae-\w+) = ([\w.]+):cli"', SETUP.read_text()) if SETUP.exists() else []
# TensorFlow and Keras take ten seconds to import: --help must not.
CODE = """
import sys
sys.modules.update(dict.fromkeys(("tensorflow", "keras", "keras_tuner", "matplotlib", "sklearn")))
from {module} import cli
sys.argv = ["{name}", "--help"]
cli()
"""


def told(name, module):
  code = CODE.format(name=name, module=module)
  return subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True)


def flags_in(text):
  """{flag: its help, with what absl says of its default} of what --help prints."""
  listed = text.partition("\nflags:\n")[2].partition("\nTry --helpfull")[0]
  blocks = re.findall(r"^  --(\S+?): (.*?)(?=^  --|\Z)", listed, re.MULTILINE | re.DOTALL)
  return {flag: " ".join(block.split()) for flag, block in blocks}


@pytest.mark.parametrize(("name", "module"), PROGRAMS)
def test_each_flag_is_a_sentence_with_its_default(name, module):
  done = told(name, module)
  assert not done.stderr, done.stderr
  found = flags_in(done.stdout)
  assert found
  for flag, text in found.items():
    sentence, default = re.fullmatch(r"(?:<\S+>: )?(.*?)( \(default: .*|)", text).groups()
    assert re.match(r"[A-Z]", sentence), (flag, sentence)
    assert len(sentence.split()) >= 4, (flag, sentence)
    assert re.search(r"[.?](?: \(.*)?$", sentence), (flag, sentence)
    says = re.search(r"\bDefault: |\bRequired\b", sentence)
    assert default or says, f"--{flag} has no default in its help, nor is it required"


def test_the_programs_are_all_there():
  assert len(PROGRAMS) == 8
