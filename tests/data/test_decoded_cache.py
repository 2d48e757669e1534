"""The cache of decoded images: a process that is killed at any line leaves no wrong pixel."""

import json
import os
import pathlib
import subprocess
import sys

import numpy as np

from imae_tf._shared import files
from imae_tf.data import decoded_cache

# Forks a process for each line of the cache's code that a first one runs. It is killed before that
# line; then another makes the entry. Without TensorFlow, whose threads a fork would lose.
_KILLS = """
import json, os, pathlib, shutil, signal, sys, types
data = types.ModuleType("imae_tf.data")
data.__path__ = [sys.argv[2]]
sys.modules["imae_tf.data"] = data
import numpy as np
from imae_tf._shared import files
from imae_tf.data import decoded_cache
from imae_tf.errors import InputError
assert "tensorflow" not in sys.modules
os.fsync = lambda file: None  # which is for a failure of power, and slow

SHAPE, N = (3, 2, 1), 6
pixels = np.random.default_rng(0).integers(1, 256, (N, *SHAPE), np.uint8)
pixels[4] = 0  # which cannot be read
decoded_cache._ROWS_AT_ONCE = 4

def decoded(first):
  for row in range(first, N):
    yield InputError("expected an image") if row == 4 else pixels[row]

def make(cache):
  return decoded_cache.made(cache, "key", SHAPE, N, decoded, {"about": 1})

def whole(found):
  images, about = found
  return np.array_equal(images, pixels) and about == {
      "about": 1, "bad": {"4": "expected an image"}, "brightest": int(pixels.max())}

def killed_before(count, cache):
  watched, left = (decoded_cache.__file__, files.__file__, shutil.__file__), [count]
  def trace(frame, event, argument):
    if frame.f_code.co_filename not in watched:
      return None
    if event == "line":
      left[0] -= 1
      if left[0] < 0:
        os.kill(os.getpid(), signal.SIGKILL)
    return trace
  sys.settrace(trace)
  make(cache)
  os._exit(0)

results, count, status = [], 0, None
while status != 0:
  cache = str(pathlib.Path(sys.argv[1], str(count)))
  os.makedirs(pathlib.Path(cache, "key"))  # a damaged one, which is replaced
  pathlib.Path(cache, "key", "images.npy").write_bytes(b"half")
  pathlib.Path(cache, "key", "files.json").write_text("{}")
  child = os.fork()
  if not child:
    killed_before(count, cache)
  status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
  seen = decoded_cache.opened(cache, "key")
  left = seen is None or whole(seen)
  rest = whole(make(cache)) and whole(decoded_cache.opened(cache, "key"))
  names = sorted(str(path.relative_to(cache)) for path in pathlib.Path(cache).rglob("*"))
  results.append([status, left, rest, names])
  count += 1
print(json.dumps(results))
"""


def test_killed_before_any_line(tmp_path):
  folder = str(pathlib.Path(decoded_cache.__file__).parent)
  done = subprocess.run(
      [sys.executable, "-c", _KILLS, tmp_path, folder], capture_output=True, check=False, text=True
  )
  assert done.returncode == 0, done.stderr
  results = json.loads(done.stdout)
  assert len(results) > 100 and {result[0] for result in results[:-1]} == {-9}
  for line, (_, left, rest, names) in enumerate(results):
    assert left, f"wrong pixels after a kill before line {line}"
    assert rest, f"wrong pixels made after a kill before line {line}"
    assert names == [
        "key", "key.lock", "key.lock/.lock", "key/files.json", "key/images.npy"
    ], line


SHAPE, N = (3, 2, 1), 6
PIXELS = np.random.default_rng(0).integers(1, 256, (N, *SHAPE), np.uint8)


def made(cache):
  images, _ = decoded_cache.made(str(cache), "key", SHAPE, N, lambda row: iter(PIXELS[row:]), {})
  return np.array(images)


def test_a_write_that_ended_at_any_byte(tmp_path, monkeypatch):
  """Rows are noted once they are written: what is behind the noted ones is written again."""
  monkeypatch.setattr(decoded_cache, "_ROWS_AT_ONCE", 2)
  monkeypatch.setattr(os, "fsync", lambda file: None)
  made(tmp_path)
  whole = (tmp_path / "key" / "images.npy").read_bytes()
  header = len(whole) - PIXELS.size
  for rows in (0, 2, 4):
    noted = header + rows * PIXELS[0].size
    for size in range(header - 1, len(whole)):
      (tmp_path / "key").rename(tmp_path / "key.partial")
      written = whole[: min(size, noted)] + b"?" * (size - noted)
      (tmp_path / "key.partial" / "images.npy").write_bytes(written)
      progress = {"rows": rows, "bad": {}, "brightest": 0}
      files.write_json(tmp_path / "key.partial" / "progress.json", progress)
      np.testing.assert_array_equal(made(tmp_path), PIXELS, f"{rows} rows, {size} bytes")
