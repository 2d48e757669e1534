"""Locks between processes: one at a time, and free as soon as a process is gone."""

import subprocess
import sys
import time

import pytest

from imae_tf._shared import locks
from imae_tf.errors import InUseError

_HOLD = """
import sys, time
from imae_tf._shared import locks
with locks.locked(sys.argv[1]):
  print("locked", flush=True)
  time.sleep(float(sys.argv[2]))
"""


@pytest.fixture
def holder(tmp_path):
  """A function that starts a process which holds the lock of `tmp_path / "run"` for a time."""
  started = []

  def start(seconds):
    command = [sys.executable, "-c", _HOLD, tmp_path / "run", str(seconds)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    started.append(process)
    assert process.stdout.readline() == "locked\n"
    return process

  yield start
  for process in started:
    process.kill()
    process.communicate()


def test_a_second_process_is_refused_at_once_until_the_first_is_killed(tmp_path, holder):
  process = holder(seconds=100)
  started = time.monotonic()
  with pytest.raises(InUseError, match="another process is at work; wait for it, or give"):
    with locks.locked(tmp_path / "run"):
      pass
  assert time.monotonic() - started < 1
  assert not locks.is_free(tmp_path / "run")
  process.kill()
  process.wait()
  with locks.locked(tmp_path / "run"):
    assert not locks.is_free(tmp_path / "run")  # nor may the same process have it twice
  assert locks.is_free(tmp_path / "run")


def test_one_can_wait_for_the_lock(tmp_path, holder):
  process = holder(seconds=0.5)
  with locks.locked(tmp_path / "run", wait_s=60):
    assert process.wait() == 0


def test_an_error_frees_the_lock(tmp_path):
  with pytest.raises(OSError, match="full"), locks.locked(tmp_path / "run"):
    raise OSError("disk full")
  assert locks.is_free(tmp_path / "run")


def test_pieces_of_work_are_locked_apart(tmp_path):
  with locks.locked(tmp_path), locks.locked(locks.place(tmp_path, "07")):
    assert locks.is_free(locks.place(tmp_path, "08"))


def test_an_output_is_written_by_one_and_its_lock_goes(tmp_path):
  path = tmp_path / "codes.csv"
  with locks.locked_output(path):
    with pytest.raises(InUseError, match="got .*codes.csv, which one does; wait for it"):
      with locks.locked_output(path):
        pass
    with locks.locked_output(tmp_path / "other.csv"):
      pass
  assert not list(tmp_path.iterdir())
  (tmp_path / ".codes.csv.lock").touch()  # what a killed process leaves
  with locks.locked_output(path):
    pass
