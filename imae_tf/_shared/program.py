"""Runs the programs: every one calls `run`, which parses flags and shows errors in one line."""

import os
import re
import sys
import tempfile
from collections.abc import Callable
from typing import Any

from absl import app
from absl import flags
from absl import logging

from imae_tf._shared import backend
from imae_tf.errors import first_line
from imae_tf.errors import ImaeError
from imae_tf.errors import Preempted


def run(main: Callable[[], None]) -> None:
  """Runs `main()` as an absl program named after the console script.

  What a user can mend (`ImaeError`, a file that cannot be read or written) ends in one line
  on stderr and exit status 1. Any other exception is a bug and keeps its traceback.

  Args:
    main: a function without arguments, called once the flags are parsed.
  """
  # TensorFlow's C++ start-up messages would hide ours; its failures still raise in Python.
  os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
  # Otherwise TensorFlow takes all the memory of every GPU at once.
  os.environ.setdefault("TF_FORCE_GPU_ALLOW_GROWTH", "true")
  backend.choose()
  logging.set_verbosity(logging.WARNING)
  _show_in_help(main.__module__)
  app.run(lambda argv: _guarded(main, argv))


def command(module: str, name: str) -> list[str]:
  """The first arguments of a process that runs another program of the installed package.

  Args:
    module: name of the module whose `cli` it is.
    name: name of the console script, which its messages begin with.
  """
  code = f"import sys; from {module} import cli; sys.argv[0] = {name!r}; cli()"
  # By this interpreter, wherever the user's PATH points. -P: in the checkout's root, its folder
  # would hide the installed package.
  return [sys.executable, "-P", "-c", code]


def say(text: str) -> None:
  """Tells the person at the keyboard what is done, on stderr."""
  print(text, file=sys.stderr, flush=True)


def import_tensorflow() -> None:
  """Imports TensorFlow without its start-up messages, which would hide ours.

  TensorFlow writes them straight to the process's stderr, before it reads its log level. If the
  import fails, they are shown after all.
  """
  with tempfile.TemporaryFile() as messages:
    stderr = os.dup(2)
    os.dup2(messages.fileno(), 2)
    try:
      import tensorflow  # noqa: F401
    except BaseException:
      messages.seek(0)
      os.write(stderr, messages.read())
      raise
    finally:
      os.dup2(stderr, 2)
      os.close(stderr)


def _show_in_help(module_name: str) -> None:
  """Makes --help show a module; absl describes `__main__`, in a console script the wrapper."""
  sys.modules["__main__"].__doc__ = sys.modules[module_name].__doc__
  for flag in flags.FLAGS.get_key_flags_for_module(module_name):
    flags.FLAGS.register_key_flag_for_module(sys.argv[0], flag)


def _guarded(main: Callable[[], None], argv: list[str]) -> int:
  name = os.path.basename(sys.argv[0]).removesuffix(".py")
  try:
    if len(argv) > 1:
      raise app.UsageError(f"expected flags alone, got {argv[1]!r}; write --flag=value.")
    main()
    return 0
  except KeyboardInterrupt:
    print(f"{name}: interrupted; the same command goes on from here.", file=sys.stderr)
    return 130
  except Preempted as stopped:
    print(f"{name}: {stopped}", file=sys.stderr)
    return 143  # as a shell reports SIGTERM
  except Exception as error:
    message = _mendable(error)
    if message is None:
      raise
    print(f"{name}: error: {' '.join(message.splitlines())}", file=sys.stderr)
    return 1


def _mendable(error: Exception) -> str | None:
  """What the user can do about an error; None for a bug."""
  if isinstance(error, ImaeError):
    return str(error)
  if isinstance(error, OSError):
    return _failed_file(error)
  tensorflow = sys.modules.get("tensorflow")
  if tensorflow and isinstance(error, tensorflow.errors.OpError):
    # An InputError of a function inside a tf.data pipeline arrives as text.
    found = re.search(r"InputError: (.*)", error.message)
    if found:
      return found.group(1)
    if isinstance(error, _file_errors(tensorflow.errors)):
      return _failed_file(error.message)
  return None


def _file_errors(errors: Any) -> tuple[Any, ...]:
  return (errors.DataLossError, errors.NotFoundError, errors.PermissionDeniedError,
          errors.ResourceExhaustedError)


def _failed_file(reason: object) -> str:
  return (
      f"expected to read and write files, got {first_line(reason)}; free disk"
      " or memory, or mend the path and its permissions, then give the same command again."
  )
