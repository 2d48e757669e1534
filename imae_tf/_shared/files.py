"""Reads and writes files, JSON among them, so that nobody ever sees one half-written.

All programs write their files through `replacing` or `write_json`.
"""

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
  """Yields a temporary path beside `path`.

  When the block ends, the file there is renamed to `path`; after an error it is removed.
  """
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


def read_json(path: str | pathlib.Path, mend: str = "restore or delete it") -> Any:
  """Reads JSON.

  Args:
    path: path of the file.
    mend: what helps if it is damaged, for the message; a file that is made again may be deleted.

  Raises:
    InputError: the file is missing or not JSON.
  """
  path = pathlib.Path(path)
  try:
    return json.loads(path.read_text())
  except FileNotFoundError:
    raise InputError(
        f"expected {path}, got no such file; restore it, or correct the path."
    ) from None
  except (ValueError, UnicodeDecodeError) as error:
    raise InputError(f"expected JSON in {path}, got: {error}; {mend}.") from None


def check_free(
    folder: str | pathlib.Path, whose: str, marker: str = "", ours: Sequence[str] = ()
) -> None:
  """Checks that a folder does not exist yet, is empty, or holds what we wrote before.

  Hidden files do not count, because the platform or a program that was killed may leave them.

  Args:
    folder: the folder.
    whose: what the folder may be if it is not empty, for the message: "a run's folder".
    marker: name of a file; a folder that has it may hold anything.
    ours: patterns of the names that a folder without the marker may have.

  Raises:
    InputError: `folder` is a file, or it holds something else.
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
