"""The errors of the client, and the choice among them for a gRPC code or an HTTP status."""

import contextlib
from collections.abc import Iterator
from typing import Any

from imae_tf.errors import first_line
from imae_tf.errors import ImaeError


class ClientError(ImaeError, RuntimeError):
  """A request that failed.

  Attributes:
    code: canonical name of the gRPC code, such as "INVALID_ARGUMENT", whatever the protocol.
  """

  def __init__(self, message: str, code: str) -> None:
    super().__init__(message)
    self.code = code

  def __reduce__(self) -> tuple[Any, ...]:  # the default one, from `args`, would leave the code out
    return type(self), (*self.args, self.code)


class RefusedError(ClientError, ValueError):
  """The server answered that the request is wrong: the same one will be refused again."""


class NotFoundError(RefusedError):
  """The server does not know the model or the version."""


class UnavailableError(ClientError, ConnectionError):
  """There is no server, or it is busy: the same request may succeed later."""


class DeadlineError(ClientError, TimeoutError):
  """The answer did not come in time."""


class ReplyError(ClientError):
  """The answer does not come from an IMAE SavedModel behind TF Serving's protocol."""


_KINDS: dict[str, type[ClientError]] = {
    "INVALID_ARGUMENT": RefusedError, "FAILED_PRECONDITION": RefusedError,
    "OUT_OF_RANGE": RefusedError, "NOT_FOUND": NotFoundError,
    "UNAUTHENTICATED": RefusedError, "PERMISSION_DENIED": RefusedError,
    "UNAVAILABLE": UnavailableError, "RESOURCE_EXHAUSTED": UnavailableError,
    "ABORTED": UnavailableError,
    "CANCELLED": UnavailableError,  # the server cancelled it; a call cancelled here has no answer
    "DEADLINE_EXCEEDED": DeadlineError,
}
_EXPECTED: dict[str | type[ClientError], str] = {  # by code, or else by kind
    "UNAUTHENTICATED": "expected a request that {} accepts, got {}: {}; correct the headers that"
    " the Client was given.",
    "PERMISSION_DENIED": "expected a request that {} accepts, got {}: {}; correct the headers"
    " that the Client was given.",
    "RESOURCE_EXHAUSTED": "expected a server with free capacity at {}, got {}: {}; try again"
    " later.",
    RefusedError: "expected a request that {} accepts, got {}: {}",
    NotFoundError: "expected a model that {} serves, got {}: {}; correct the model's name or"
    " version, or start again where a newer version has taken its place.",
    UnavailableError: "expected a server that answers at {}, got {}: {}; try again later, or"
    " correct the endpoint.",
    DeadlineError: "expected an answer of {} in time, got {}: {}; raise the client's timeout_s,"
    " send less at once (chunk_size, or --batch_size of imae-encode), or check the endpoint.",
    ClientError: "expected an answer of {}, got {}: {}; the server's log has more.",
}


def failure(code: str, endpoint: str, message: str, status: str | None = None) -> ClientError:
  """The error for a request that failed.

  Args:
    code: canonical name of the gRPC code.
    endpoint: the endpoint that the request went to.
    message: the server's or the library's message.
    status: the status that the error names; None for the code.
  """
  kind = _KINDS.get(code, ClientError)
  expected = _EXPECTED.get(code) or _EXPECTED[kind]
  return kind(expected.format(endpoint, status or code, message.rstrip(".")), code)


@contextlib.contextmanager
def reading(endpoint: str) -> Iterator[None]:
  """Turns errors that come from reading a reply into a `ReplyError`."""
  try:
    yield
  except ClientError:
    raise
  except (
      ValueError, TypeError, LookupError, AttributeError, OverflowError, RecursionError
  ) as error:
    raise ReplyError(
        "expected the answer of an IMAE model behind TF Serving's protocol from"
        f" {endpoint}, got another one ({type(error).__name__}: {first_line(error)}); check"
        " the endpoint and the model's name.",
        "INTERNAL",
    ) from error
