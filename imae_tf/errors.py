"""The errors of the package; the programs print the message alone and exit with status 1."""

import re
from collections.abc import Iterable

_HEADING = re.compile(r"Graph execution error:|Detected at node |\s+File \"")
_ORIGIN = re.compile(
    r"\s*(\{\{.*?\}\} |Error in user-defined function passed to .*? with iterator: \S+: )*"
)


def shown(text: str) -> str:
  r"""Text that can be printed: bytes of a file's name that are no UTF-8 as `\xe9`.

  Args:
    text: a message, or a name as Python has it.

  >>> print(shown("caf\udce9.png"))
  caf\xe9.png
  """
  try:
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
  except UnicodeEncodeError:  # half a character, which is no byte either
    return text.encode("utf-8", "backslashreplace").decode()


class ImaeError(Exception):
  """Base of the errors whose message is meant for the person at the keyboard."""

  def __init__(self, *args: object) -> None:
    # TensorFlow and terminals raise errors of their own of text that is no UTF-8.
    super().__init__(*(shown(arg) if isinstance(arg, str) else arg for arg in args))


class InputError(ImaeError, ValueError):
  """Bad input: the message says what was expected, what came and how to mend it."""


class InUseError(InputError):
  """Another process is at work in the folder."""


class MissingExtraError(ImaeError, ImportError):
  """A library of an extra is not installed: the message has the command that brings it."""


class BackendError(ImaeError, ImportError):
  """Keras does not compute with TensorFlow: the message says how to choose it."""


class DivergenceError(ImaeError, RuntimeError):
  """A term of the loss is no longer finite: the message names the term and the step."""


class SearchError(ImaeError, RuntimeError):
  """A search ends without a result: the message says why."""


class Preempted(ImaeError):
  """SIGTERM came: the run is saved, and the same command goes on from there."""


class WorkerLostError(ImaeError, RuntimeError):
  """Another process of a distributed run has ended; this one cannot go on without it."""


def listing(names: Iterable[str]) -> str:
  """The names for a message: in quotes, with commas between them; "nothing" if there are none."""
  return ", ".join(map(repr, names)) or "nothing"


def first_line(error: object) -> str:
  """The line of another library's error that says what went wrong, of at most 200 characters.

  TensorFlow writes headings and stack frames before this line. At the start of the line it writes
  names of nodes, in double braces, and of a pipeline's steps; these are cut off. If the error has
  no text, the result is the name of its type.

  Args:
    error: an exception, or a message.
  """
  lines = str(error).splitlines()
  telling = [line for line in lines if line.strip() and not _HEADING.match(line)]
  return _ORIGIN.sub("", telling[0], count=1)[:200] if telling else type(error).__name__
