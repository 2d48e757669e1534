"""One request to a server and its answer, over REST or gRPC, blocking or awaited.

Each channel has the coroutine functions `predict` and `available_versions`. Those of a blocking
channel never wait for an event loop: they are finished when they are first run.
"""

import base64
import contextlib
import http
import inspect
import json
import urllib.parse

import numpy as np

from imae_tf.errors import ImaeError
from imae_tf.errors import InputError
from imae_tf.errors import first_line

_OUTPUTS = {"decode": ("x",), "reconstruct": ("x",)}  # every other one gives codes
_CODES = ("y", "z", "z_scale")
# The canonical codes of gRPC behind the statuses of HTTP, as TF Serving and proxies use them.
_CODES_OF_STATUS = {
    400: "INVALID_ARGUMENT", 404: "NOT_FOUND", 412: "FAILED_PRECONDITION",
    413: "INVALID_ARGUMENT", 429: "RESOURCE_EXHAUSTED", 502: "UNAVAILABLE", 503: "UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
}
_NO_LIMIT = -1
_GRPC_OPTIONS = [
    ("grpc.max_receive_message_length", _NO_LIMIT),
    ("grpc.max_send_message_length", _NO_LIMIT),
    # The client's own pauses decide when a lost server is tried again.
    ("grpc.initial_reconnect_backoff_ms", 50),
    ("grpc.min_reconnect_backoff_ms", 1000),
    ("grpc.max_reconnect_backoff_ms", 500),
]


class ClientError(ImaeError, RuntimeError):
  """A request that failed.

  Attributes:
    code: canonical name of gRPC's, such as "INVALID_ARGUMENT", whatever the protocol.
  """

  def __init__(self, message, code):
    super().__init__(message)
    self.code = code


class RefusedError(ClientError, ValueError):
  """The server answered that the request is wrong: the same one will be refused again."""


class NotFoundError(RefusedError):
  """The server does not know the model or the version."""


class UnavailableError(ClientError):
  """No server, or one that has no time: the same request may succeed later."""


class DeadlineError(ClientError):
  """The answer did not come in time."""


class ReplyError(ClientError):
  """The answer is not one of an IMAE SavedModel behind TF Serving's protocol."""


_KINDS = {
    "INVALID_ARGUMENT": RefusedError, "FAILED_PRECONDITION": RefusedError,
    "OUT_OF_RANGE": RefusedError, "NOT_FOUND": NotFoundError,
    "UNAVAILABLE": UnavailableError, "RESOURCE_EXHAUSTED": UnavailableError,
    "ABORTED": UnavailableError,
    "CANCELLED": UnavailableError,  # by the server: who cancels a call here gets no answer
    "DEADLINE_EXCEEDED": DeadlineError,
}
_EXPECTED = {
    RefusedError: "expected a request that {} accepts, got {}: {}",
    NotFoundError: "expected a model that {} serves, got {}: {}; correct the model's name or"
    " version, or start again where a newer version has taken its place.",
    UnavailableError: "expected a server with free capacity at {}, got {}: {}; try again later,"
    " or correct the endpoint.",
    DeadlineError: "expected an answer of {} in time, got {}: {}; raise timeout_s, or send less"
    " at once with chunk_size.",
    ClientError: "expected an answer of {}, got {}: {}; the server's log has more.",
}


def open_channel(endpoint, model_name, timeout_s, blocking):
  """The channel to `http://host:port`, `https://`, `grpc://` or `grpcs://`.

  Raises:
    InputError: another kind of endpoint.
    ImaeError: the libraries are not installed.
  """
  parts = _parsed(endpoint)
  kind = RestChannel if parts.scheme.startswith("http") else GrpcChannel
  try:
    return kind(endpoint.rstrip("/"), model_name, timeout_s, blocking)
  except ImportError as error:
    raise ImaeError(
        f"expected the serving extra, which {endpoint} needs, got no {error.name}; run"
        " pip install 'imae_tf[serving]'."
    ) from error


class RestChannel:
  """TF Serving's REST API; its tensors are JSON, in columns (`inputs` -> `outputs`)."""

  bytes_per_number = 22  # a float32 in JSON, at most
  bytes_per_byte = 4 / 3  # base64

  def __init__(self, endpoint, model_name, timeout_s, blocking):
    import httpx

    self._errors = httpx
    kind = httpx.Client if blocking else httpx.AsyncClient
    try:
      self._http = kind(base_url=endpoint, timeout=timeout_s)
    except httpx.InvalidURL:
      raise _bad_endpoint(endpoint) from None
    self._endpoint, self._timeout_s = endpoint, timeout_s
    self._path = f"/v1/models/{urllib.parse.quote(model_name, safe='')}"

  async def predict(self, signature, inputs, version):
    """{name: float32 array} of {name: float32 array, or list of bytes}.

    Args:
      signature: name of the signature.
      inputs: all with the same number of rows.
      version: an integer, a label, or None for the newest version.

    Raises:
      ClientError: one of its kinds.
    """
    path = self._path + _version_path(version)
    if not len(next(iter(inputs.values()))):  # JSON cannot say how wide no rows are
      return self._no_rows(await self._exchange("GET", f"{path}/metadata"), signature)
    columns = {name: _json_column(value) for name, value in inputs.items()}
    body = json.dumps({"signature_name": signature, "inputs": columns})
    headers = {"Content-Type": "application/json"}
    reply = await self._exchange("POST", f"{path}:predict", content=body, headers=headers)
    with _reading(self._endpoint):
      return _float_arrays(signature, reply["outputs"])

  async def available_versions(self):
    """The versions that answer, [integer]."""
    reply = await self._exchange("GET", self._path)
    with _reading(self._endpoint):
      statuses = reply["model_version_status"]
      return [int(status["version"]) for status in statuses if status["state"] == "AVAILABLE"]

  def close(self):
    """Closes the connections; what it returns is for `awaited`."""
    return self._http.close() if hasattr(self._http, "close") else self._http.aclose()

  async def _exchange(self, method, path, **kwargs):
    try:
      response = await awaited(self._http.request(method, path, **kwargs))
    except (self._errors.ConnectTimeout, self._errors.PoolTimeout) as error:
      raise _failure("UNAVAILABLE", self._endpoint, first_line(error)) from error
    except self._errors.TimeoutException as error:
      raise _failure("DEADLINE_EXCEEDED", self._endpoint, _late(self._timeout_s)) from error
    except self._errors.TransportError as error:
      raise _failure("UNAVAILABLE", self._endpoint, first_line(error)) from error
    except self._errors.RequestError as error:  # such as a body that is not the gzip it claims
      raise _failure("INTERNAL", self._endpoint, first_line(error)) from error
    if response.status_code != http.HTTPStatus.OK:
      code = _CODES_OF_STATUS.get(response.status_code, "UNKNOWN")
      raise _failure(code, self._endpoint, _sentence(response), f"HTTP {response.status_code}")
    with _reading(self._endpoint):
      return response.json()

  def _no_rows(self, reply, signature):
    with _reading(self._endpoint):
      signatures = reply["metadata"]["signature_def"]["signature_def"]
      if signature not in signatures:
        message = f"no signature {signature!r}, but {', '.join(sorted(signatures))}"
        raise _failure("INVALID_ARGUMENT", self._endpoint, message)
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

  def __init__(self, endpoint, model_name, timeout_s, blocking):
    import grpc

    from imae_tf.export import wire

    self._grpc, self._wire, self._blocking = grpc, wire, blocking
    self._endpoint, self._model_name, self._timeout_s = endpoint, model_name, timeout_s
    # An asynchronous one belongs to the event loop that is to come.
    self._channel = self._open() if blocking else None

  async def predict(self, signature, inputs, version):
    """As `RestChannel.predict`."""
    request = self._wire.predict_request(self._model_name, version, signature, inputs)
    reply = await self._exchange(self._wire.PREDICT, request)
    with _reading(self._endpoint):
      return _float_arrays(signature, self._wire.predict_outputs(reply))

  async def available_versions(self):
    """As `RestChannel.available_versions`."""
    request = self._wire.status_request(self._model_name)
    reply = await self._exchange(self._wire.GET_MODEL_STATUS, request)
    with _reading(self._endpoint):
      return self._wire.available_versions(reply)

  def close(self):
    """As `RestChannel.close`."""
    return self._channel.close() if self._channel else None

  async def _exchange(self, method, request):
    if self._channel is None:
      self._channel = self._open()
    try:
      return await awaited(self._channel.unary_unary(method)(request, timeout=self._timeout_s))
    except self._grpc.RpcError as error:
      code = error.code().name
      details = _late(self._timeout_s) if code == "DEADLINE_EXCEEDED" else error.details()
      if code == "RESOURCE_EXHAUSTED" and "larger than max" in (details or ""):
        code, details = "INVALID_ARGUMENT", f"{details}; lower chunk_size"
      raise _failure(code, self._endpoint, first_line(details or "no reason")) from error

  def _open(self):
    parts = _parsed(self._endpoint)
    module = self._grpc if self._blocking else self._grpc.aio
    if parts.scheme == "grpcs":
      credentials = self._grpc.ssl_channel_credentials()
      return module.secure_channel(parts.netloc, credentials, options=_GRPC_OPTIONS)
    return module.insecure_channel(parts.netloc, options=_GRPC_OPTIONS)


async def awaited(value):
  """What a blocking function returned, or what an asynchronous one is going to."""
  return await value if inspect.isawaitable(value) else value


@contextlib.contextmanager
def _reading(endpoint):
  """Makes a `ReplyError` of what goes wrong while a reply is read."""
  try:
    yield
  except ClientError:
    raise
  except (ValueError, TypeError, LookupError, AttributeError) as error:
    raise ReplyError(
        "expected the answer of an IMAE model behind TF Serving's protocol from"
        f" {endpoint}, got another one ({type(error).__name__}: {first_line(error)}); check"
        " the endpoint and the model's name.",
        "INTERNAL",
    ) from error


def _parsed(endpoint):
  try:
    parts = urllib.parse.urlsplit(endpoint)
    whole = parts.scheme in ("http", "https", "grpc", "grpcs") and parts.hostname
    whole = whole and (parts.port or parts.scheme.startswith("http"))
  except ValueError:  # a port or an address that is none
    raise _bad_endpoint(endpoint) from None
  if not whole or (parts.scheme.startswith("grpc") and parts.path.strip("/")) or parts.query:
    raise _bad_endpoint(endpoint)
  return parts


def _bad_endpoint(endpoint):
  return InputError(
      f"expected an endpoint such as http://127.0.0.1:8501 or grpc://127.0.0.1:8500, got"
      f" {endpoint!r}; correct it."
  )


def _version_path(version):
  if version is None:
    return ""
  if isinstance(version, str):
    return f"/labels/{urllib.parse.quote(version, safe='')}"
  return f"/versions/{version}"


def _json_column(value):
  if isinstance(value, np.ndarray):
    return value.tolist()
  return [{"b64": base64.b64encode(content).decode()} for content in value]


def _float_arrays(signature, outputs):
  """The outputs that a signature has, as float32 arrays."""
  names = _OUTPUTS.get(signature, _CODES)
  if len(names) == 1 and not isinstance(outputs, dict):  # REST leaves a single name out
    outputs = {names[0]: outputs}
  if set(outputs) != set(names):
    raise ValueError(f"outputs {sorted(outputs)} instead of {sorted(names)}")
  return {name: np.asarray(outputs[name], np.float32) for name in names}


def _failure(code, endpoint, message, status=None):
  kind = _KINDS.get(code, ClientError)
  return kind(_EXPECTED[kind].format(endpoint, status or code, message.rstrip(".")), code)


def _late(timeout_s):
  return f"no answer within {timeout_s:g} s"


def _sentence(response):
  """What the body of a refusal says; proxies answer with other things than TF Serving."""
  try:
    return first_line(response.json()["error"])
  except (ValueError, TypeError, LookupError):
    return first_line(response.text) if response.text.strip() else response.reason_phrase
