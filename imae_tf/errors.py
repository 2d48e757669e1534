"""What the package raises; the programs print the message alone and exit with status 1."""


class ImaeError(Exception):
  """Base of the errors whose message is meant for the person at the keyboard."""


class InputError(ImaeError, ValueError):
  """Bad input: the message says what was expected, what came and how to mend it."""


class DivergenceError(ImaeError, RuntimeError):
  """A term of the loss is no longer finite: the message names the term and the step."""
