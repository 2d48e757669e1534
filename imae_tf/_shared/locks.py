"""Work that several processes share in a folder: a file lock says who is at work on what.

A lock belongs to the system and goes with its process, a killed one's too. So what is not
finished and not locked has been left, and whoever comes next goes on with it.
"""

import contextlib
import pathlib
from collections.abc import Iterator

import filelock

from imae_tf.errors import InUseError


@contextlib.contextmanager
def locked(folder: str | pathlib.Path, wait_s: float = 0.0) -> Iterator[None]:
  """Keeps other processes out of a folder, which is made if it is not there.

  Args:
    folder: whatever the lock stands for; it holds the lock's file, `.lock`.
    wait_s: how long to wait for another process, in seconds.

  Raises:
    InUseError: another process has the lock.
  """
  folder = pathlib.Path(folder)
  folder.mkdir(parents=True, exist_ok=True)
  lock = filelock.FileLock(folder / ".lock", timeout=wait_s)
  try:
    lock.acquire()
  except filelock.Timeout:
    raise InUseError(
        f"expected a folder that no one trains in, got {folder}, where another process"
        " is at work; wait for it, or give another --workdir."
    ) from None
  try:
    yield
  finally:
    lock.release()


def place(workdir: str | pathlib.Path, name: str) -> pathlib.Path:
  """The folder whose lock stands for one piece of the work in `workdir`."""
  return pathlib.Path(workdir) / "locks" / name


def is_free(folder: str | pathlib.Path) -> bool:
  """Whether no process has a folder's lock."""
  try:
    with locked(folder):
      return True
  except InUseError:
    return False
