"""What the package raises; the programs print the message alone and exit with status 1."""

import re


class ImaeError(Exception):
  """Base of the errors whose message is meant for the person at the keyboard."""


class InputError(ImaeError, ValueError):
  """Bad input: the message says what was expected, what came and how to mend it."""


class DivergenceError(ImaeError, RuntimeError):
  """A term of the loss is no longer finite: the message names the term and the step."""


class Preempted(ImaeError):
  """SIGTERM came: the run is saved, and the same command goes on from there."""


class WorkerLostError(ImaeError, RuntimeError):
  """Another process of a distributed run has ended; this one cannot go on without it."""


def first_line(error):
  """The first line of another library's message, at most 200 characters, or its type.

  TensorFlow puts its node's name first, in double braces, and its own steps last.
  """
  message = re.sub(r"^\{\{.*?\}\} ", "", str(error).strip())
  return (message.splitlines() or [type(error).__name__])[0][:200]
