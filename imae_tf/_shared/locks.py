"""File locks for processes that share the work in a folder: a lock marks what a process works on.

The operating system releases a lock when its process ends, also when it is killed. So work that is
neither finished nor locked was left behind, and the next process goes on with it. Training,
searches, comparisons and tables of codes take their locks here.
"""

import contextlib
import pathlib
from collections.abc import Iterator

import filelock

from imae_tf.errors import InUseError


@contextlib.contextmanager
def locked(folder: str | pathlib.Path, wait_s: float = 0.0) -> Iterator[None]:
  """Keeps other processes out of a folder while the context lasts; makes the folder if needed.

  Args:
    folder: the folder that the lock protects; the lock is the file `.lock` in it.
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


@contextlib.contextmanager
def locked_output(path: str | pathlib.Path) -> Iterator[None]:
  """Keeps other processes from writing a file while the context lasts.

  Args:
    path: the file; its folder exists. The lock is `.NAME.lock` beside it, which is removed at the
      end: people look into such folders.

  Raises:
    InUseError: another process has the lock.
  """
  path = pathlib.Path(path)
  file = path.with_name(f".{path.name}.lock")
  lock = filelock.FileLock(file, timeout=0.0)
  try:
    lock.acquire()
  except filelock.Timeout:
    raise InUseError(
        f"expected an --output that no other process writes, got {path}, which one does; wait for"
        " it, or give another --output."
    ) from None
  try:
    yield
  finally:
    file.unlink(missing_ok=True)
    lock.release()


def place(workdir: str | pathlib.Path, name: str) -> pathlib.Path:
  """The folder whose lock protects one piece of the work in `workdir`."""
  return pathlib.Path(workdir) / "locks" / name


def is_free(folder: str | pathlib.Path) -> bool:
  """Whether no process has a folder's lock."""
  try:
    with locked(folder):
      return True
  except InUseError:
    return False
