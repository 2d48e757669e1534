"""TF Serving's REST API on a `core.Server`, as an ASGI application.

    POST /v1/models/NAME[/versions/N]:predict
    GET  /v1/models/NAME[/versions/N]            the status of the versions
    GET  /v1/models/NAME[/versions/N]/metadata   their signatures

`serve` runs the application that `app` makes. Paths, bodies (also in gzip), status codes and the
wording of errors are TF Serving's, as far as its own tests fix them. Every error is
{"error": sentence}. Only a request that is not HTTP, or whose host name is not allowed, gets plain
text.
"""

import asyncio
import concurrent.futures
import contextlib
import json
import logging
import re
import urllib.parse
import zlib
from collections.abc import Callable
from collections.abc import Iterable
from typing import Any
from typing import NoReturn
from typing import TypeVar

from google.protobuf import json_format
from starlette import applications
from starlette import requests
from starlette import responses
from starlette import routing
from starlette import types
from starlette.middleware import trustedhost

from imae_tf.export.server import core
from imae_tf.export.server import json_tensors
from imae_tf.export.server import page
from imae_tf.export.server.batching import Arrays
from imae_tf.export.server.batching import ServingError

_HTTP = {
    "CANCELLED": 499, "INVALID_ARGUMENT": 400, "DEADLINE_EXCEEDED": 504, "NOT_FOUND": 404,
    "ALREADY_EXISTS": 409, "PERMISSION_DENIED": 403, "RESOURCE_EXHAUSTED": 429,
    "FAILED_PRECONDITION": 400, "ABORTED": 409, "OUT_OF_RANGE": 400, "UNIMPLEMENTED": 501,
    "UNAVAILABLE": 503, "UNAUTHENTICATED": 401,
}
_MODEL = r"/v1/models/([^/:]+)(?:/versions/(\d+)|/labels/([^/:]+))?"
_POST = re.compile(_MODEL + ":(classify|regress|predict)", re.IGNORECASE)
_GET = re.compile(_MODEL + "(?:/(metadata))?", re.IGNORECASE)
_OWN = re.compile("/v1/.*", re.IGNORECASE)
_MOST_VERSION = 2**63 - 1
_LARGE = 2**18  # bytes; converting them to or from JSON takes some milliseconds
_LARGE_AT_A_TIME = 2
_log = logging.getLogger(__name__)

Named = tuple[str, int | None, str | None]  # a model's name, version, label
_T = TypeVar("_T")


def app(
    server: core.Server,
    *,
    max_request_bytes: int = 32 * 2**20,
    timeout_s: float = 30.0,
    hosts: Iterable[str] | None = None,
) -> applications.Starlette:
  """The application, with the page at `/`.

  Args:
    server: a `core.Server`.
    max_request_bytes: most bytes in a body; a larger body is answered with 413.
    timeout_s: seconds for a body to arrive, and again for its answer; after that comes 504.
    hosts: the host names that requests may use; None for any. On loopback another name comes from a
      web site that has given its own name the address of this machine.
  """
  handler = _Handler(server, max_request_bytes, timeout_s)
  everything = routing.Route("/{path:path}", handler)
  application = applications.Starlette(routes=[*page.routes(server), everything])
  if hosts:
    allowed = [f"[{host}]" if ":" in host else host for host in hosts]
    application.add_middleware(
        trustedhost.TrustedHostMiddleware, allowed_hosts=allowed, www_redirect=False
    )
  # No route matches a path with a line break, and Starlette would answer it with a redirect.
  application.router.default = handler
  application.router.redirect_slashes = False
  return application


class _Handler:

  def __init__(self, server: core.Server, max_request_bytes: int, timeout_s: float) -> None:
    self._server = server
    self._max_bytes = max_request_bytes
    self._timeout_s = timeout_s
    # Few at a time, because each holds its arrays, and blocks the interpreter while it is in C.
    self._threads = concurrent.futures.ThreadPoolExecutor(_LARGE_AT_A_TIME, "large-body")

  async def __call__(
      self, scope: types.Scope, receive: types.Receive, send: types.Send
  ) -> None:
    response = await self.reply(requests.Request(scope, receive))
    await response(scope, receive, send)

  async def reply(self, request: requests.Request) -> responses.Response:
    """The response to a request of any method and path."""
    try:
      response = await self._answer(request)
    except _TooLarge as error:
      response = _error(413, str(error))
      response.headers["Connection"] = "close"
    except ServingError as error:
      response = _error(_HTTP.get(error.code, 500), error.message)
    except requests.ClientDisconnect:
      response = _error(499, "The client is gone.")  # nobody reads it
    except Exception:
      _log.exception("%s %s failed.", request.method, request.scope["path"])
      response = _error(500, "Internal error; the server's log has more.")
    if self._server.leaving:
      response.headers["Connection"] = "close"
    return response

  async def _answer(self, request: requests.Request) -> responses.Response:
    path = (request.scope.get("raw_path") or request.scope["path"].encode()).decode("latin-1")
    if query := request.scope["query_string"].decode("latin-1"):
      path = f"{path}?{query}"  # TF Serving takes a query as a part of the last name
    if request.method == "POST" and (found := _POST.fullmatch(path)):
      *names, method = found.groups()
      body = await self._body(request)
      if method == "predict":
        return await self._predict(request, _named(*names), body)
      if method in ("classify", "regress"):  # in lower case, unlike the rest of a path
        self._classify_or_regress(_named(*names), method, body)
    if request.method == "GET" and (found := _GET.fullmatch(path)):
      *names, subject = found.groups()
      named = _named(*names)
      if subject == "metadata":
        return _json(self._metadata(self._server.resolve(*named)))
      return _json(self._status(*named[:2]))
    if request.method == "GET" and path.lower() == "/v1/models":
      raise ServingError("INVALID_ARGUMENT", "Missing model name in request.")
    code = "INVALID_ARGUMENT" if _OWN.fullmatch(path) else "NOT_FOUND"
    raise ServingError(code, f"Malformed request: {request.method} {path[:200]}")

  async def _predict(
      self, request: requests.Request, named: Named, body: bytes
  ) -> responses.Response:
    document = await self._apart(len(body), json_tensors.Request, body)
    version = self._server.resolve(*named)
    _, signatures = self._server.metadata(version)
    name = document.signature_name or core.DEFAULT_SIGNATURE
    if name not in signatures:
      raise ServingError(
          "INVALID_ARGUMENT", f'Serving signature name: "{name}" not found in signature def'
      )
    if not signatures[name].inputs:
      raise ServingError("INVALID_ARGUMENT", f"Failed to get input map for signature: {name}")
    self._server.check_rows(document.rows)
    inputs, in_rows = await self._apart(len(body), document.inputs, signatures[name])
    outputs = await self._answer_while_there(request, name, inputs, version)
    size = sum(value.nbytes for value in outputs.values())
    content = await self._apart(size, json_tensors.response, outputs, in_rows)
    return responses.Response(content, media_type="application/json")

  async def _answer_while_there(
      self, request: requests.Request, name: str, inputs: Arrays, version: int | None
  ) -> Arrays:
    """The outputs; if the client leaves, the request is cancelled and another gets its place."""
    answer = asyncio.ensure_future(self._server.answer(name, inputs, version, self._timeout_s))
    gone = asyncio.ensure_future(_until_gone(request))
    try:
      await asyncio.wait((answer, gone), return_when=asyncio.FIRST_COMPLETED)
      if not answer.done():
        raise requests.ClientDisconnect
      return answer.result()[1]
    finally:
      answer.cancel()
      gone.cancel()

  def _classify_or_regress(self, named: Named, method: str, body: bytes) -> NoReturn:
    """Raises TF Serving's error for a model whose signatures are all for `predict`."""
    request = json_tensors.Request(body)
    if not isinstance(request.document.get("examples"), list):
      raise ServingError(
          "INVALID_ARGUMENT",
          f"When method is {method}, key 'examples' is expected to be a list/array",
      )
    self._server.metadata(self._server.resolve(*named))
    raise ServingError(
        "INVALID_ARGUMENT",
        f"Expected a signature with method_name tensorflow/serving/{method}. Was:"
        " tensorflow/serving/predict",
    )

  def _status(self, name: str, version: int | None) -> dict[str, Any]:
    return {
        "model_version_status": [
            {
                "version": str(number),
                "state": state,
                "status": {"error_code": code, "error_message": message},
            }
            for number, state, code, message in self._server.status(version, name)
        ]
    }

  def _metadata(self, version: int | None) -> dict[str, Any]:
    number, signatures = self._server.metadata(version)
    spec = {"name": self._server.model_name, "signature_name": "", "version": str(number)}
    written = {
        name: json_format.MessageToDict(
            signature, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
        )
        for name, signature in signatures.items()
    }
    return {
        "model_spec": spec, "metadata": {"signature_def": {"signature_def": written}}
    }

  async def _body(self, request: requests.Request) -> bytes:
    """The body, unpacked; it must arrive within `timeout_s`."""
    claimed = request.headers.get("content-length", "")
    too_large = claimed.isdigit() and int(claimed) > self._max_bytes
    waits_for_us = "expect" in request.headers  # the client has not sent the body yet
    if too_large and waits_for_us:
      raise _TooLarge(self._max_bytes)
    body = await self._sent(request, too_large)
    if "gzip" in request.headers.get("content-encoding", ""):
      return await self._in_thread(_unpacked, body, self._max_bytes)
    return body

  async def _sent(self, request: requests.Request, too_large: bool) -> bytes:
    """The bytes of a body.

    A body that is too large is also read to its end, and thrown away, because a client that still
    sends would not see the answer.
    """
    chunks: list[bytes] = []
    size = 0
    try:
      async with asyncio.timeout(self._timeout_s):
        async with contextlib.aclosing(request.stream()) as stream:
          async for chunk in stream:
            size += len(chunk)
            too_large = too_large or size > self._max_bytes
            if too_large:
              chunks.clear()
            else:
              chunks.append(chunk)
    except TimeoutError:
      if not too_large:
        raise ServingError(
            "DEADLINE_EXCEEDED",
            f"expected the whole body within {self._timeout_s:.3g} s, got {size} bytes; send"
            " it faster or in parts.",
        ) from None
    if too_large:
      raise _TooLarge(self._max_bytes)
    return b"".join(chunks)

  async def _apart(self, size: int, function: Callable[..., _T], *arguments: Any) -> _T:
    """The function's result; for many bytes it runs in a thread, so that others are answered."""
    if size > _LARGE:
      return await self._in_thread(function, *arguments)
    return function(*arguments)

  def _in_thread(self, function: Callable[..., _T], *arguments: Any) -> asyncio.Future[_T]:
    return asyncio.get_running_loop().run_in_executor(self._threads, function, *arguments)


async def _until_gone(request: requests.Request) -> None:
  """Returns when the client has closed the connection; the body must have been read."""
  while (await request.receive())["type"] != "http.disconnect":
    pass


def _unpacked(body: bytes, max_bytes: int) -> bytes:
  """The content of a gzip body; stops with an error as soon as it exceeds `max_bytes`."""
  unpacker = zlib.decompressobj(wbits=16 + zlib.MAX_WBITS)  # 16: gzip's header
  try:
    content = unpacker.decompress(body, max_bytes + 1)
  except zlib.error:
    content = b""
  if len(content) > max_bytes:
    raise _TooLarge(max_bytes)
  if not unpacker.eof:
    raise ServingError(
        "INVALID_ARGUMENT",
        "expected a whole gzip body, as its Content-Encoding says, got a damaged one or a part;"
        " compress it again, or leave the header out.",
    )
  return content


class _TooLarge(Exception):
  """A body over the limit, for which gRPC has no code of its own."""

  def __init__(self, max_bytes: int) -> None:
    super().__init__(
        f"expected a body of at most {max_bytes} bytes, got a larger one; send fewer rows a"
        " request."
    )


def _named(name: str, version: str | None, label: str | None) -> Named:
  """(model's name, version, label) from the parts of a path."""
  name = urllib.parse.unquote(name)
  if version is None:
    return name, None, label and urllib.parse.unquote(label)
  if len(version) > 19 or int(version) > _MOST_VERSION:
    raise ServingError("INVALID_ARGUMENT", f"Failed to convert version: {version[:40]} to numeric.")
  return name, int(version), None


def _error(status: int, message: str) -> responses.Response:
  return _json({"error": message}, status)


def _json(value: Any, status: int = 200) -> responses.Response:
  # Starlette's own JSONResponse cannot write half of a surrogate pair, which a name may hold.
  return responses.Response(json.dumps(value), status, media_type="application/json")
