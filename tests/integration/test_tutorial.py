"""The tutorial, as written: its blocks run in their order in a fresh folder."""

import json
import os
import pathlib
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest

TUTORIAL = pathlib.Path(__file__).parents[2] / "docs" / "tutorial.md"
pytestmark = pytest.mark.skipif(
    not TUTORIAL.exists(), reason="the tutorial lies in a checkout, which this is not"
)
_BLOCK = re.compile(r"^```(sh|python)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def script():
  """The page as one shell script: Python blocks are programs of their own."""
  blocks = _BLOCK.findall(TUTORIAL.read_text())
  assert [language for language, _ in blocks].count("python") >= 3
  parts = [
      text if language == "sh" else f"python - <<'END_OF_BLOCK'\n{text}END_OF_BLOCK\n"
      for language, text in blocks
  ]
  # Whatever fails, the server that the page starts goes with the shell.
  return "set -euo pipefail\ntrap 'kill $(jobs -p) 2>/dev/null || true' EXIT\n" + "".join(parts)


@pytest.mark.slow  # it trains, serves and encodes for a minute and a half
def test_the_blocks_run_as_written(tmp_path):
  bin_folder = pathlib.Path(sys.executable).parent
  for program in ("imae-train", "imae-serve"):
    if not (bin_folder / program).exists():
      pytest.skip(f"{program} is not installed beside this Python: pip install -e '.[serving]'")
  if not shutil.which("curl"):
    pytest.skip("the tutorial uses curl")
  environment = {**os.environ, "PATH": f"{bin_folder}:{os.environ['PATH']}"}
  result = subprocess.run(
      ["bash", "-c", script()], cwd=tmp_path, env=environment, capture_output=True, text=True,
      timeout=400,
  )
  assert result.returncode == 0, result.stdout + result.stderr
  assert (tmp_path / "runs/mine/report.html").exists()
  codes = np.load(tmp_path / "codes.npz")
  assert codes["y"].shape == codes["z"].shape == (1797, 10)
  # The digits in the names, which training did not read: k-means is right for about 0.74.
  share = float(re.search(r"most frequent digit: (\d\.\d\d)", result.stdout).group(1))
  assert share > 0.6, result.stdout
  answer = json.loads(re.search(r"^{.*}", result.stdout, re.MULTILINE | re.DOTALL).group())
  np.testing.assert_allclose(answer["predictions"][0]["y"], codes["y"][0], atol=1e-4)  # of curl
