"""Files that are never seen half-written: replaced atomically, and JSON on top of that."""

import contextlib
import json
import os
import pathlib
import tempfile
from collections.abc import Iterator
from collections.abc import Sequence
from typing import Any

from imae_tf.errors import InputError


@contextlib.contextmanager
def replacing(path: str | pathlib.Path) -> Iterator[pathlib.Path]:
  """Yields a temporary path beside `path`, renamed onto it on success, else removed."""
  path = pathlib.Path(path)
  path.parent.mkdir(parents=True, exist_ok=True)
  handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=".tmp-", suffix=path.suffix)
  os.close(handle)
  try:
    yield pathlib.Path(temporary)
    os.chmod(temporary, 0o644)
    os.replace(temporary, path)
  finally:
    pathlib.Path(temporary).unlink(missing_ok=True)


def write_json(path: str | pathlib.Path, value: Any) -> None:
  """Writes JSON with sorted keys, atomically."""
  with replacing(path) as temporary:
    temporary.write_text(json.dumps(value, indent=2, sort_keys=True) + "\n")


def read_json(path: str | pathlib.Path) -> Any:
  """Reads JSON.

  Raises:
    InputError: the file is missing or not JSON.
  """
  path = pathlib.Path(path)
  try:
    return json.loads(path.read_text())
  except FileNotFoundError:
    raise InputError(f"expected {path}, got no such file; correct the path.") from None
  except (ValueError, UnicodeDecodeError) as error:
    raise InputError(f"expected JSON in {path}, got: {error}; restore or delete it.") from None


def check_free(
    folder: str | pathlib.Path, whose: str, marker: str = "", ours: Sequence[str] = ()
) -> None:
  """Checks that a folder is not there, is empty, or is one of ours.

  Hidden files do not count: the platform or a killed start may leave them.

  Args:
    folder: the folder.
    whose: what else it may be, for the message: "a run's folder".
    marker: the name of a file that makes it so.
    ours: patterns of the names that may be in it without the marker.

  Raises:
    InputError: it is a file, or holds something else.
  """
  folder = pathlib.Path(folder)
  if folder.exists() and not folder.is_dir():
    raise InputError(f"expected a folder, got the file {folder}; give another --workdir.")
  if not folder.exists() or (marker and (folder / marker).exists()):
    return
  others = sorted(
      p.name for p in folder.glob("[!.]*") if not any(p.match(pattern) for pattern in ours)
  )
  if others:
    missing = f" and no {marker}" if marker else ""
    raise InputError(
        f"expected an empty folder or {whose}, got {folder} with {others[0]!r}{missing}; give"
        " another --workdir."
    )
