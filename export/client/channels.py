"""Sends single requests to a server, over REST or gRPC, blocking or not.

The clients open a channel with `open_channel`. A channel has the coroutine functions `predict`,
`available_versions` and `version_of`. Those of a blocking channel never wait for an event loop:
they are finished when they are first run.
"""

import asyncio
import base64
import contextlib
import inspect
import ipaddress
import json
import urllib.parse
from collections.abc import Awaitable
from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any
from typing import TYPE_CHECKING
from typing import TypeVar

import numpy as np

from imae_tf._shared import extras
from imae_tf.errors import first_line
from imae_tf.errors import InputError
from imae_tf.export.client.failures import failure
from imae_tf.export.client.failures import reading

if TYPE_CHECKING:
  import httpx

Rows = np.ndarray | Sequence[bytes]
_T = TypeVar("_T")

_OUTPUTS = {"decode": ("x",), "reconstruct": ("x",)}  # every other signature gives codes
_CODES = ("y", "z", "z_scale")
# The canonical gRPC codes for the statuses of HTTP, as TF Serving and proxies use them.
_CODES_OF_STATUS = {
    400: "INVALID_ARGUMENT", 401: "UNAUTHENTICATED", 403: "PERMISSION_DENIED",
    404: "NOT_FOUND", 408: "DEADLINE_EXCEEDED", 412: "FAILED_PRECONDITION",
    413: "INVALID_ARGUMENT", 429: "RESOURCE_EXHAUSTED", 502: "UNAVAILABLE", 503: "UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
}
_CONNECT_S = 5.0  # for a connection over REST; a server that takes longer counts as down
_LARGE = 2**16  # so many bytes of JSON would keep an event loop waiting
_ENVIRONMENT = "HTTP_PROXY, HTTPS_PROXY, ALL_PROXY, NO_PROXY, SSL_CERT_FILE or SSL_CERT_DIR"
_NO_LIMIT = -1
_GRPC_OPTIONS = [
    ("grpc.max_receive_message_length", _NO_LIMIT),
    ("grpc.max_send_message_length", _NO_LIMIT),
    # The client's own pauses decide when a lost server is tried again.
    ("grpc.initial_reconnect_backoff_ms", 50),
    ("grpc.max_reconnect_backoff_ms", 500),
]


def open_channel(
    endpoint: str,
    model_name: str,
    timeout_s: float,
    blocking: bool,
    headers: Mapping[str, str] | None = None,
) -> "RestChannel | GrpcChannel":
  """The channel to `http://host:port`, `https://`, `grpc://` or `grpcs://`.

  Raises:
    InputError: another kind of endpoint, or the environment cannot be used.
    MissingExtraError: the libraries are not installed.
  """
  parts = _parsed(endpoint)
  kind: type[RestChannel] | type[GrpcChannel] = GrpcChannel
  if parts.scheme.startswith("http"):
    kind = RestChannel
  with extras.needed("serving", f"ask {endpoint}"):
    return kind(endpoint.rstrip("/"), model_name, timeout_s, blocking, headers or {})


class RestChannel:
  """TF Serving's REST API; its tensors are JSON, in columns (`inputs` -> `outputs`)."""

  bytes_per_number = 22  # a float32 in JSON, at most
  bytes_per_byte = 4 / 3  # base64

  def __init__(
      self,
      endpoint: str,
      model_name: str,
      timeout_s: float,
      blocking: bool,
      headers: Mapping[str, str],
  ) -> None:
    import httpx

    self._httpx, self._blocking = httpx, blocking
    self._endpoint, self._timeout_s = endpoint, timeout_s
    # If N threads made or read JSON, the event loop would get one turn in N; so only one does.
    self._one_at_a_time = asyncio.Semaphore(1)
    self._path = f"/v1/models/{urllib.parse.quote(model_name, safe='')}"
    try:
      httpx.URL(endpoint)
    except httpx.InvalidURL:
      raise _bad_endpoint(endpoint) from None
    try:
      self._http = self._open(headers)
    except (ImportError, OSError, ValueError, httpx.InvalidURL) as error:
      raise InputError(
          f"expected proxies and certificates that httpx can use, got: {first_line(error)};"
          f" correct {_ENVIRONMENT} in the environment."
      ) from error

  async def predict(
      self, signature: str, inputs: Mapping[str, Rows], version: int | str | None
  ) -> dict[str, np.ndarray]:
    """Runs a signature: {name: float32 array, or list of bytes} to {name: float32 array}.

    Args:
      signature: name of the signature.
      inputs: the inputs, all with the same number of rows.
      version: an integer, a label, or None for the newest version.

    Raises:
      ClientError: the request failed; the subclass says how.
    """
    path = self._path + _version_path(version)
    if not len(next(iter(inputs.values()))):  # JSON without rows does not tell their width
      return self._no_rows(await self._json("GET", f"{path}/metadata"), signature)
    size = sum(map(_json_size, inputs.values()))
    body = await self._apart(size, _predict_body, signature, inputs)
    headers = {"Content-Type": "application/json"}
    response = await self._exchange("POST", f"{path}:predict", content=body, headers=headers)
    with reading(self._endpoint):
      return await self._apart(len(response.content), self._outputs, signature, response)

  async def available_versions(self) -> list[int]:
    """The versions that answer, [integer]."""
    reply = await self._json("GET", self._path)
    with reading(self._endpoint):
      statuses = reply["model_version_status"]
      return [int(status["version"]) for status in statuses if status["state"] == "AVAILABLE"]

  async def version_of(self, label: str) -> int:
    """The number of the version that a label stands for now."""
    reply = await self._json("GET", f"{self._path}{_version_path(label)}/metadata")
    with reading(self._endpoint):
      return int(reply["model_spec"]["version"])

  def close(self) -> Awaitable[None] | None:
    """Closes the connections; pass its result to `awaited`."""
    return self._http.close() if self._blocking else self._http.aclose()

  def _open(self, headers: Mapping[str, str]) -> Any:
    kind = self._httpx.Client if self._blocking else self._httpx.AsyncClient
    return kind(
        base_url=self._endpoint,
        headers=headers,
        timeout=self._httpx.Timeout(self._timeout_s, connect=min(self._timeout_s / 2, _CONNECT_S)),
        trust_env=not _is_loopback(self._endpoint),  # whether the environment's proxies are used
        verify=self._httpx.create_ssl_context(),  # always with the environment's certificates
    )

  async def _json(self, method: str, path: str) -> Any:
    response = await self._exchange(method, path)
    with reading(self._endpoint):
      return response.json()

  async def _exchange(self, method: str, path: str, **kwargs: Any) -> "httpx.Response":
    try:
      response = await self._answered(method, path, kwargs)
    except (self._httpx.ConnectTimeout, self._httpx.PoolTimeout) as error:
      raise failure("UNAVAILABLE", self._endpoint, first_line(error)) from error
    except (self._httpx.TimeoutException, TimeoutError) as error:
      raise failure("DEADLINE_EXCEEDED", self._endpoint, _late(self._timeout_s)) from error
    except self._httpx.TransportError as error:
      raise failure("UNAVAILABLE", self._endpoint, first_line(error)) from error
    except self._httpx.RequestError as error:  # for example, a body that is not gzip as it claims
      raise failure("INTERNAL", self._endpoint, first_line(error)) from error
    if response.is_success:
      return response
    status = f"HTTP {response.status_code}"
    if response.has_redirect_location:
      message = f"a redirect to {response.headers['Location']}; correct the endpoint"
      raise failure("FAILED_PRECONDITION", self._endpoint, message, status)
    code = _CODES_OF_STATUS.get(response.status_code, "UNKNOWN")
    raise failure(code, self._endpoint, _sentence(response), status)

  async def _answered(
      self, method: str, path: str, kwargs: Mapping[str, Any]
  ) -> "httpx.Response":
    if self._blocking:
      return self._http.request(method, path, **kwargs)
    async with asyncio.timeout(self._timeout_s):  # httpx's own starts again with each byte
      return await self._http.request(method, path, **kwargs)

  async def _apart(self, size: float, function: Callable[..., _T], *arguments: Any) -> _T:
    """`function(*arguments)`; runs in a thread if it would keep an event loop waiting."""
    if self._blocking or size < _LARGE:
      return function(*arguments)
    async with self._one_at_a_time:
      return await asyncio.to_thread(function, *arguments)

  def _outputs(self, signature: str, response: "httpx.Response") -> dict[str, np.ndarray]:
    # A Python function that is called for each number lets other threads run meanwhile.
    number: Callable[[str], float] = float if self._blocking else lambda text: float(text)
    return _float_arrays(signature, response.json(parse_float=number)["outputs"])

  def _no_rows(self, reply: Any, signature: str) -> dict[str, np.ndarray]:
    """The outputs for no rows; their widths come from the metadata."""
    with reading(self._endpoint):
      signatures = reply["metadata"]["signature_def"]["signature_def"]
      if signature not in signatures:
        message = f"no signature {signature!r}, but {', '.join(sorted(signatures))}"
        raise failure("INVALID_ARGUMENT", self._endpoint, message)
      outputs = signatures[signature]["outputs"]
      sizes = {
          name: [int(dim["size"]) for dim in tensor["tensor_shape"]["dim"][1:]]
          for name, tensor in outputs.items()
      }
      empty = {name: np.zeros([0, *size], np.float32) for name, size in sizes.items()}
      return _float_arrays(signature, empty)


class GrpcChannel:
  """TF Serving's gRPC API; its tensors are bytes."""

  bytes_per_number = 4
  bytes_per_byte = 1

  def __init__(
      self,
      endpoint: str,
      model_name: str,
      timeout_s: float,
      blocking: bool,
      headers: Mapping[str, str],
  ) -> None:
    import grpc

    from imae_tf.export.client import wire

    self._grpc, self._wire, self._blocking = grpc, wire, blocking
    self._endpoint, self._model_name, self._timeout_s = endpoint, model_name, timeout_s
    self._metadata = tuple(headers.items())
    # An asynchronous channel must be opened in the event loop, so the first request opens it.
    self._channel = self._open() if blocking else None

  async def predict(
      self, signature: str, inputs: Mapping[str, Rows], version: int | str | None
  ) -> dict[str, np.ndarray]:
    """As `RestChannel.predict`."""
    request = self._wire.predict_request(self._model_name, version, signature, inputs)
    reply = await self._exchange(self._wire.PREDICT, request)
    with reading(self._endpoint):
      return _float_arrays(signature, self._wire.predict_outputs(reply))

  async def available_versions(self) -> list[int]:
    """As `RestChannel.available_versions`."""
    request = self._wire.status_request(self._model_name)
    reply = await self._exchange(self._wire.GET_MODEL_STATUS, request)
    with reading(self._endpoint):
      return self._wire.available_versions(reply)

  async def version_of(self, label: str) -> int:
    """As `RestChannel.version_of`."""
    request = self._wire.metadata_request(self._model_name, label)
    reply = await self._exchange(self._wire.GET_MODEL_METADATA, request)
    with reading(self._endpoint):
      return self._wire.answering_version(reply)

  def close(self) -> Awaitable[None] | None:
    """As `RestChannel.close`."""
    return self._channel.close() if self._channel else None

  async def _exchange(self, method: str, request: bytes) -> bytes:
    if self._channel is None:
      self._channel = self._open()
    try:
      call = self._channel.unary_unary(method)
      return await awaited(call(request, timeout=self._timeout_s, metadata=self._metadata))
    except asyncio.CancelledError:
      task = asyncio.current_task()
      if task is None or task.cancelling():
        raise
      raise failure("CANCELLED", self._endpoint, "a closed connection") from None
    except self._grpc.RpcError as error:
      code = error.code().name
      details = _late(self._timeout_s) if code == "DEADLINE_EXCEEDED" else error.details()
      if code == "RESOURCE_EXHAUSTED" and "larger than max" in (details or ""):
        code, details = "INVALID_ARGUMENT", f"{details}; lower chunk_size"
      raise failure(code, self._endpoint, first_line(details or "no reason")) from error

  def _open(self) -> Any:
    parts = _parsed(self._endpoint)
    module = self._grpc if self._blocking else self._grpc.aio
    options = [
        *_GRPC_OPTIONS,
        ("grpc.min_reconnect_backoff_ms", max(1, int(1000 * self._timeout_s))),  # to connect
        ("grpc.enable_http_proxy", int(not _is_loopback(self._endpoint))),
    ]
    if parts.scheme == "grpcs":
      credentials = self._grpc.ssl_channel_credentials()
      return module.secure_channel(parts.netloc, credentials, options=options)
    return module.insecure_channel(parts.netloc, options=options)


async def awaited(value: Any) -> Any:
  """The result of a blocking function as it is, or of an asynchronous one once it is there."""
  return await value if inspect.isawaitable(value) else value


def _parsed(endpoint: str) -> urllib.parse.SplitResult:
  if not isinstance(endpoint, str) or not endpoint.isprintable() or " " in endpoint:
    raise _bad_endpoint(endpoint)
  if "@" in endpoint:  # messages would show the password
    raise InputError(
        "expected an endpoint without a user's name and password, got one with an @; send them"
        " from Python, as Client(endpoint, headers={'Authorization': ...})."
    )
  try:
    parts = urllib.parse.urlsplit(endpoint)
    port = parts.port
  except ValueError:  # not a port, or not an address
    raise _bad_endpoint(endpoint) from None
  grpc = parts.scheme in ("grpc", "grpcs")
  whole = parts.hostname and (grpc or parts.scheme in ("http", "https"))
  if not whole or (grpc and parts.path.strip("/")) or parts.query or parts.fragment:
    raise _bad_endpoint(endpoint)
  if grpc and not port:
    raise InputError(
        f"expected an endpoint with a port, got {endpoint!r}; add it, as in {endpoint.rstrip('/')}"
        ":8500."
    )
  return parts


def _bad_endpoint(endpoint: str) -> InputError:
  return InputError(
      f"expected an endpoint such as http://127.0.0.1:8501 or grpc://127.0.0.1:8500, got"
      f" {endpoint!r}; correct it."
  )


def _is_loopback(endpoint: str) -> bool:
  host = str(_parsed(endpoint).hostname)
  with contextlib.suppress(ValueError):
    return ipaddress.ip_address(host).is_loopback
  return host == "localhost"


def _version_path(version: int | str | None) -> str:
  if version is None:
    return ""
  if isinstance(version, str):
    return f"/labels/{urllib.parse.quote(version, safe='')}"
  return f"/versions/{version}"


def _predict_body(signature: str, inputs: Mapping[str, Rows]) -> str:
  """The JSON of a request, made row by row, as no other thread runs during json.dumps."""
  columns = [
      f"{json.dumps(name)}: [{', '.join(json.dumps(_json_value(row)) for row in rows)}]"
      for name, rows in inputs.items()
  ]
  return f'{{"signature_name": {json.dumps(signature)}, "inputs": {{{", ".join(columns)}}}}}'


def _json_size(rows: Rows) -> float:
  if isinstance(rows, np.ndarray):
    return rows.size * RestChannel.bytes_per_number
  return sum(map(len, rows)) * RestChannel.bytes_per_byte


def _json_value(row: np.ndarray | bytes) -> Any:
  if isinstance(row, np.ndarray):
    return row.tolist()
  return {"b64": base64.b64encode(row).decode()}


def _float_arrays(signature: str, outputs: Any) -> dict[str, np.ndarray]:
  """The outputs that a signature has, as float32 arrays."""
  names = _OUTPUTS.get(signature, _CODES)
  if len(names) == 1 and not isinstance(outputs, dict):  # REST leaves a single name out
    outputs = {names[0]: outputs}
  if set(outputs) != set(names):
    raise ValueError(f"outputs {sorted(outputs)} instead of {sorted(names)}")
  return {name: np.asarray(outputs[name], np.float32) for name in names}


def _late(timeout_s: float) -> str:
  return f"no answer within {timeout_s:g} s"


def _sentence(response: "httpx.Response") -> str:
  """The sentence in the body of a refusal; proxies have other bodies than TF Serving."""
  try:
    return first_line(response.json()["error"])
  except (ValueError, TypeError, LookupError, RecursionError):
    return first_line(response.text) if response.text.strip() else response.reason_phrase
