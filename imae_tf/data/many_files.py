"""Work on many files at once, in order, with a progress bar; and what tells a file from itself.

Reading files waits for disks, and decoders leave Python's lock: so threads help.
"""

import concurrent.futures
import os
import pathlib
from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Sequence
from typing import Any

import PIL.Image
import tqdm

from imae_tf.errors import InputError

_AT_ONCE = 512  # results that may wait to be taken

# Size in bytes and time of the last change, in nanoseconds.
Facts = tuple[int, int]


def each(function: Callable[[Any], Any], items: Sequence[Any], doing: str) -> Iterator[Any]:
  """Yields the result for each item, in order; an InputError is yielded, not raised.

  Args:
    function: Called in threads.
    items: Its arguments.
    doing: What a progress bar on a terminal says, such as "Reading headers".
  """
  PIL.Image.init()  # once, and not in several threads

  def guarded(item: Any) -> Any:
    try:
      return function(item)
    except InputError as error:
      return error

  with (
      concurrent.futures.ThreadPoolExecutor(os.cpu_count() or 1) as pool,
      tqdm.tqdm(total=len(items), desc=doing, unit=" files", disable=None, leave=False) as bar,
  ):
    for start in range(0, len(items), _AT_ONCE):
      for result in pool.map(guarded, items[start : start + _AT_ONCE]):
        yield result
        bar.update()


def facts(path: pathlib.Path) -> Facts:
  """The `Facts` of a file.

  Raises:
    InputError: It is gone.
  """
  try:
    found = path.stat()
  except OSError as error:
    raise InputError(
        f"expected {path}, which was listed before, got: {error.strerror}; put it back and give"
        " the same command again."
    ) from error
  return found.st_size, found.st_mtime_ns


def check_unchanged(path: pathlib.Path, before: Facts) -> None:
  """Compares a file with what was told of it when it was listed.

  Raises:
    InputError: It is gone, or another.
  """
  if facts(path) != before:
    raise InputError(
        f"expected {path} as it was when it was listed, got a file that has changed since; give"
        " the same command again once nobody writes there."
    )
