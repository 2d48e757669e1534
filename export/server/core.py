"""A server's core: the versions of a base folder, loaded as TF Serving loads them.

It speaks no protocol: `rest` and `rpc` do, both on one `Server`. A version goes through
START, LOADING, AVAILABLE, UNLOADING and END; a new one is loaded and warmed up beside the one
that serves, takes over in an instant, and the old one is unloaded after its last answer.
"""

import asyncio
import logging
import os
import re
import threading
import time

import tensorflow as tf
from tensorflow.core.protobuf import config_pb2
from tensorflow.core.protobuf import error_codes_pb2

from imae_tf.errors import first_line
from imae_tf.errors import InputError
from imae_tf.export import versions
from imae_tf.export import warmup
from imae_tf.export.server import batching
from imae_tf.export.server.batching import ServingError

DEFAULT_SIGNATURE = "serving_default"
_RETRY_S = 60.0  # for a version that could not be loaded, though its files are the same
_ASSERTION = re.compile(r"assertion failed: \[(.*?)\]\s*$", re.MULTILINE)
_log = logging.getLogger(__name__)


class Server:
  """The newest version of a base folder, as a function that many may call at a time.

  Args:
    base: folder of the versions 1, 2, ...
    model_name: under which it is served.
    max_batch_size: rows that are run together at most; 1 runs each request alone. A larger
      request runs alone.
    batch_timeout_s: how long a request waits for others although a worker is idle.
    max_queue: requests that may wait.
    max_rows: of a request: a few bytes may ask for many images.
    poll_s: seconds between looks at the base folder; 0 for none but `refresh`.

  Attributes:
    model_name: as given.
    leaving: set it before `close` for the protocols to send their clients away.

  Raises:
    InputError: there is no version in the base folder that can be loaded.
  """

  def __init__(
      self,
      base,
      model_name="imae",
      *,
      max_batch_size=128,
      batch_timeout_s=0.0,
      max_queue=1000,
      max_rows=4096,
      poll_s=1.0,
  ):
    self.model_name = model_name
    self._base = versions.base_folder(base)
    self._max_rows = max_rows
    self._lock = threading.Lock()
    self._served = {}  # {number: _Version}
    self._states = {}  # {number: (state, error code, error message)}
    self._failed = {}  # {number: (what its files looked like, when it may be tried again)}
    self._unreadable = ""  # why the base folder cannot be read
    self.leaving = False
    self._refreshing = threading.Lock()
    self._closing = threading.Event()
    self.refresh()
    self._check_serves()
    self._batcher = batching.Batcher(
        max_batch_size, batch_timeout_s, max_queue, workers=os.cpu_count()
    )
    self._watcher = threading.Thread(target=self._watch, args=(poll_s,), daemon=True)
    if poll_s > 0:
      self._watcher.start()

  def predict(self, signature, inputs, version=None, deadline=None):
    """Queues a request.

    Args:
      signature: a name; empty or None for `serving_default`.
      inputs: {name: array} of the dtypes of the signature; strings as arrays of objects.
      version: a number; None for the newest.
      deadline: of `time.monotonic`, or None.

    Returns:
      A `concurrent.futures.Future` of {name: array}, with an attribute `version`.

    Raises:
      ServingError: here or from the future. INVALID_ARGUMENT, FAILED_PRECONDITION (no such
        signature), NOT_FOUND (no such version), RESOURCE_EXHAUSTED (too many wait),
        DEADLINE_EXCEEDED, UNAVAILABLE (closed).
    """
    signature = signature or DEFAULT_SIGNATURE
    served = self._acquire(version)
    try:
      inputs = served.checked(signature, inputs)
      rows = _rows(inputs)
      self.check_rows(rows or 0)
      shapes = tuple(value.shape[1:] for value in inputs.values())
      future = self._batcher.submit(
          (served, signature, shapes),
          lambda batch: served.run(signature, batch),
          inputs,
          rows,
          deadline,
      )
    except BaseException:
      self._release(served)
      raise
    future.version = served.number
    future.add_done_callback(lambda _: self._release(served))
    return future

  def check_rows(self, rows):
    """Raises a ServingError of INVALID_ARGUMENT if these are too many for a request."""
    if rows > self._max_rows:
      raise ServingError(
          "INVALID_ARGUMENT",
          f"expected at most {self._max_rows} rows in a request, got {rows}; send them in parts.",
      )

  async def answer(self, signature, inputs, version=None, timeout_s=None):
    """`predict` for a coroutine: (version, {name: array}).

    Raises:
      ServingError: as `predict`; DEADLINE_EXCEEDED after `timeout_s` seconds.
    """
    deadline = None if timeout_s is None else time.monotonic() + timeout_s
    future = self.predict(signature, inputs, version, deadline)
    try:
      return future.version, await asyncio.wait_for(asyncio.wrap_future(future), timeout_s)
    except TimeoutError:
      raise ServingError(
          "DEADLINE_EXCEEDED",
          f"expected an answer within {timeout_s:.3g} s, got none; allow more time, send smaller"
          " requests or fewer at once.",
      ) from None

  def resolve(self, model_name, version=None, label=None):
    """Checks how a request names the model; returns the version, None for the newest.

    Raises:
      ServingError: NOT_FOUND for another model; INVALID_ARGUMENT for any label.
    """
    if label:
      raise ServingError("INVALID_ARGUMENT", f"Unrecognized servable version label: {label}")
    if model_name != self.model_name:
      raise _not_found(model_name, version)
    return version

  def metadata(self, version=None):
    """(version, {signature's name: SignatureDef}), also of those that take no inputs.

    Raises:
      ServingError: NOT_FOUND.
    """
    served = self._acquire(version)
    self._release(served)
    return served.number, served.signatures

  def status(self, version=None, model_name=None):
    """[(version, state, error code, error message)], newest first.

    The code of a version that is well is "OK", its message empty. A label is no part of the
    question, here as in TF Serving.

    Raises:
      ServingError: NOT_FOUND, also for another model.
    """
    with self._lock:
      states = dict(self._states) if model_name in (None, self.model_name) else {}
    asked = sorted(states, reverse=True) if version is None else {version} & set(states)
    if not asked:
      what = "any versions" if version is None else f"version {version}"
      name = self.model_name if model_name is None else model_name
      raise ServingError("NOT_FOUND", f"Could not find {what} of model {name}")
    return [(number, *states[number]) for number in asked]

  def path(self, version=None):
    """The folder of a version that is served, for what lies beside the graph.

    Raises:
      ServingError: NOT_FOUND.
    """
    served = self._acquire(version)
    self._release(served)
    return served.path

  def refresh(self):
    """Looks at the base folder: loads what is new, retires what is old.

    The largest integers that can be loaded are served. One that fails is tried again when its
    files have changed, or after a minute; what served before goes on. So it does if the
    folder is empty or cannot be read.
    """
    with self._refreshing:
      if self._closing.is_set():
        return
      found, before = {}, self._unreadable
      try:
        found, self._unreadable = versions.versions(self._base), ""
      except FileNotFoundError:
        pass
      except OSError as error:
        self._unreadable = f"a folder that cannot be read ({error.strerror})"
      if self._unreadable not in ("", before) and self._served:  # else `__init__` raises it
        _log.warning("%s is %s.", self._base, self._unreadable)
      for number in sorted(found, reverse=True):
        if number in self._served or self._load(number, found):
          self._retire(set(self._served) - {number})
          break

  def close(self, grace=30.0):
    """Refuses new requests, answers those that wait, for `grace` seconds, and unloads.

    A version that is being loaded then is left to itself.
    """
    until = time.monotonic() + grace
    self._closing.set()
    self._batcher.close(grace)
    if self._refreshing.acquire(timeout=max(0.0, until - time.monotonic())):
      try:
        self._retire(set(self._served))
      finally:
        self._refreshing.release()

  def _check_serves(self):
    if not self._served:
      failures = "; ".join(
          f"{number} ({message})" for number, (_, _, message) in sorted(self._states.items())
      )
      raise InputError(
          f"expected a version in {self._base} that can be loaded, got"
          f" {failures or self._unreadable or 'none'}; run imae-export --base={self._base} first."
      )

  def _watch(self, poll_s):
    while not self._closing.wait(poll_s):
      try:
        self.refresh()
      except Exception:  # a watcher that ends would leave an old version in silence
        _log.exception("%s could not be looked at.", self._base)

  def _load(self, number, found):
    """Whether a version can be served now."""
    looks = _looks(found[number])
    looked, again = self._failed.get(number, (None, 0.0))
    if looked == looks and time.monotonic() < again:
      return False
    self._set_state(number, "LOADING")
    try:
      served = _Version(number, found[number])
    except Exception as error:  # a damaged file makes TensorFlow raise many types
      self._failed[number] = looks, time.monotonic() + _RETRY_S
      self._set_state(number, "END", _code(error), _sentence(error))
      if looked != looks and self._served:  # else `__init__` raises it
        _log.warning("Version %d cannot be loaded: %s", number, _sentence(error))
      return False
    if self._closing.is_set():
      served.close()
      return False
    with self._lock:
      self._served[number] = served
      self._states[number] = ("AVAILABLE", "OK", "")
    return True

  def _retire(self, numbers):
    """Sends no more requests to these versions and unloads them after their last answer."""
    for number in numbers:
      with self._lock:
        served = self._served.pop(number)
        served.users += 1  # we, until the release below
        served.retired = True
        self._states[number] = ("UNLOADING", "OK", "")
      self._release(served)

  def _acquire(self, version):
    if self._closing.is_set():
      raise batching.closing()
    with self._lock:
      number = max(self._served, default=None) if version is None else version
      served = self._served.get(number)
      if served is None:
        raise _not_found(self.model_name, version)
      served.users += 1
      return served

  def _release(self, served):
    with self._lock:
      served.users -= 1
      done = served.retired and not served.users
    if done:
      served.close()
      with self._lock:
        if self._states[served.number][0] == "UNLOADING":  # it may have come back, whole or not
          self._states[served.number] = ("END", "OK", "")

  def _set_state(self, number, state, code="OK", message=""):
    with self._lock:
      self._states[number] = (state, code, message)


class _Version:
  """A SavedModel in a session of its own, warmed up.

  Attributes:
    number: of the version.
    path: its folder.
    signatures: {name: SignatureDef}.
    users: requests that are under way; of the server's lock.
    retired: whether new ones go elsewhere.
  """

  def __init__(self, number, path):
    self.number, self.path, self.users, self.retired = number, path, 0, False
    self._session = tf.compat.v1.Session(graph=tf.Graph())
    try:
      with self._session.graph.as_default():
        loaded = tf.compat.v1.saved_model.load(self._session, ["serve"], str(path))
      self.signatures = dict(loaded.signature_def)
      self._functions = {
          name: self._function(name)
          for name, signature in self.signatures.items()
          if signature.inputs  # one of a SavedModel's own has none
      }
      for signature, inputs in warmup.read(path):
        self.run(signature, self.checked(signature, inputs))
    except BaseException:
      self.close()
      raise

  def checked(self, name, inputs):
    """The inputs in the order of their names, of the signature's dtypes.

    Raises:
      ServingError: they are others than the signature's.
    """
    expected = self._signature(name).inputs
    check_names(set(inputs), set(expected))
    for input_name, value in inputs.items():
      dtype = tf.as_dtype(expected[input_name].dtype)
      if tf.as_dtype(value.dtype) != dtype:
        raise ServingError(
            "INVALID_ARGUMENT",
            f"expected {input_name} of type {dtype.name}, got {tf.as_dtype(value.dtype).name};"
            " convert it.",
        )
    return {input_name: inputs[input_name] for input_name in sorted(inputs)}

  def run(self, name, inputs):
    """{name: array} of a signature; `inputs` in the order of their names.

    Raises:
      ServingError: the graph refuses them.
    """
    try:
      outputs = self._functions[name](*inputs.values())
    except tf.errors.OpError as error:
      raise ServingError(_code(error), _sentence(error)) from error
    return dict(zip(sorted(self._signature(name).outputs), outputs, strict=True))

  def close(self):
    self._session.close()
    self._functions = {}

  def _signature(self, name):
    if name not in self._functions:
      raise no_signature(name)
    return self.signatures[name]

  def _function(self, name):
    # Session.run compares shapes and would answer for the graph, in other words; a server's
    # session does not, and neither does a callable.
    signature = self.signatures[name]
    options = config_pb2.CallableOptions(
        feed=[signature.inputs[key].name for key in sorted(signature.inputs)],
        fetch=[signature.outputs[key].name for key in sorted(signature.outputs)],
    )
    return self._session._make_callable_from_options(options)


def no_signature(name):
  """The error of a request for a signature that is not there."""
  return ServingError("FAILED_PRECONDITION", f'Serving signature key "{name}" not found.')


def _rows(inputs):
  """The common first dimension; None without one, for the graph to answer."""
  sizes = {value.shape[0] if value.ndim else None for value in inputs.values()}
  return sizes.pop() if len(sizes) == 1 else None


def check_names(got, expected):
  """Raises a ServingError of INVALID_ARGUMENT unless these sets of inputs' names are the same."""
  if got != expected:
    named = [",".join(sorted(names)) for names in (got, expected, got - expected, expected - got)]
    raise ServingError(
        "INVALID_ARGUMENT",
        f"input size does not match signature: {len(got)}!={len(expected)} len({{{named[0]}}}) !="
        f" len({{{named[1]}}}). Sent extra: {{{named[2]}}}. Missing but required: {{{named[3]}}}.",
    )


def _not_found(model_name, version):
  which = f"Latest({model_name})" if version is None else f"Specific({model_name}, {version})"
  return ServingError("NOT_FOUND", f"Servable not found for request: {which}")


def _code(error):
  if isinstance(error, ServingError):
    return error.code
  return error_codes_pb2.Code.Name(getattr(error, "error_code", tf.errors.UNKNOWN))


def _sentence(error):
  """What an assertion of the graph says, or else the telling line of TensorFlow's message."""
  found = _ASSERTION.search(str(error))
  return found.group(1) if found else first_line(error)


def _looks(path):
  """Of a version's files: names, sizes and times."""
  found = []
  for folder, _, names in os.walk(path):
    for name in names:
      file = os.path.join(folder, name)
      try:
        status = os.stat(file)
      except OSError:  # gone since
        continue
      found.append((file, status.st_size, status.st_mtime_ns))
  return sorted(found)
