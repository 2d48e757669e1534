"""The core of the server: it loads versions of a base folder and answers requests with the newest.

`rest` and `rpc` speak the protocols; both call one `Server`. A version goes through the states
START, LOADING, AVAILABLE, UNLOADING and END. A new version is loaded and warmed up while the old
one serves. Then it takes over at once, and the old version is unloaded after its last answer.
"""

import asyncio
import logging
import os
import pathlib
import threading
import time
from collections.abc import Iterable
from collections.abc import Mapping
from typing import Any

from imae_tf.errors import InputError
from imae_tf.export import versions
from imae_tf.export.server import batching
from imae_tf.export.server.batching import Arrays
from imae_tf.export.server.batching import ServingError
from imae_tf.export.server.version import code_of
from imae_tf.export.server.version import rows_of
from imae_tf.export.server.version import sentence_of
from imae_tf.export.server.version import Version

DEFAULT_SIGNATURE = "serving_default"
_RETRY_S = 60.0  # until a version that could not be loaded is tried again with the same files
_log = logging.getLogger(__name__)

State = tuple[str, str, str]  # state, error code, error message
Looks = list[tuple[str, int, int]]  # for each file of a version: path, bytes, time in ns


class Server:
  """Answers requests with the newest version of a base folder; many may call it at a time.

  Args:
    base: folder of the versions 1, 2, ...
    model_name: name under which the model is served.
    max_batch_size: most rows that are run together; 1 runs each request alone. A larger request
      runs alone.
    batch_timeout_s: how long a request waits for others although a worker is idle.
    max_queue: number of requests that may wait.
    max_rows: most rows in a request, because a few bytes may ask for many images.
    poll_s: seconds between looks at the base folder; 0 if only `refresh` looks at it.

  Attributes:
    model_name: the name under which the model is served.
    leaving: set it to True before `close`, so that the protocols send their clients away.

  Raises:
    InputError: there is no version in the base folder that can be loaded.
  """

  def __init__(
      self,
      base: str | os.PathLike[str],
      model_name: str = "imae",
      *,
      max_batch_size: int = 128,
      batch_timeout_s: float = 0.0,
      max_queue: int = 1000,
      max_rows: int = 4096,
      poll_s: float = 1.0,
  ) -> None:
    self.model_name = model_name
    self._base = versions.base_folder(base)
    self._max_rows = max_rows
    self._lock = threading.Lock()
    self._served: dict[int, Version] = {}
    self._states: dict[int, State] = {}
    # For each version that could not be loaded: its files, and the time to try it again.
    self._failed: dict[int, tuple[Looks, float]] = {}
    self._unreadable = ""  # the reason if the base folder cannot be read
    self.leaving = False
    self._refreshing = threading.Lock()
    self._closing = threading.Event()
    self.refresh()
    self._check_serves()
    self._batcher = batching.Batcher(
        max_batch_size, batch_timeout_s, max_queue, os.cpu_count() or 1
    )
    self._watcher = threading.Thread(target=self._watch, args=(poll_s,), daemon=True)
    if poll_s > 0:
      self._watcher.start()

  def predict(
      self,
      signature: str | None,
      inputs: Arrays,
      version: int | None = None,
      deadline: float | None = None,
  ) -> batching.Answer:
    """Queues a request.

    Args:
      signature: a name; empty or None for `serving_default`.
      inputs: {name: array} of the dtypes of the signature; strings as arrays of objects.
      version: a number; None for the newest.
      deadline: of `time.monotonic`, or None.

    Returns:
      A `batching.Answer`, a future of {name: array} that says its `version`.

    Raises:
      ServingError: here or from the future. INVALID_ARGUMENT, FAILED_PRECONDITION (no such
        signature), NOT_FOUND (no such version), RESOURCE_EXHAUSTED (too many wait),
        DEADLINE_EXCEEDED, UNAVAILABLE (closed).
    """
    signature = signature or DEFAULT_SIGNATURE
    served = self._acquire(version)
    try:
      inputs = served.checked(signature, inputs)
      rows = rows_of(inputs)
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

  def check_rows(self, rows: int) -> None:
    """Raises a ServingError of INVALID_ARGUMENT if these are too many rows for a request."""
    if rows > self._max_rows:
      raise ServingError(
          "INVALID_ARGUMENT",
          f"expected at most {self._max_rows} rows in a request, got {rows}; send them in parts.",
      )

  async def answer(
      self,
      signature: str | None,
      inputs: Arrays,
      version: int | None = None,
      timeout_s: float | None = None,
  ) -> tuple[int, Arrays]:
    """Awaits the result of `predict`: (version, {name: array}).

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

  def resolve(
      self, model_name: str, version: int | None = None, label: str | None = None
  ) -> int | None:
    """Checks how a request names the model; returns the version, None for the newest.

    Raises:
      ServingError: NOT_FOUND for another model; INVALID_ARGUMENT for any label.
    """
    if label:
      raise ServingError("INVALID_ARGUMENT", f"Unrecognized servable version label: {label}")
    if model_name != self.model_name:
      raise _not_found(model_name, version)
    return version

  def metadata(self, version: int | None = None) -> tuple[int, dict[str, Any]]:
    """(version, {signature's name: SignatureDef}), also for signatures without inputs.

    Raises:
      ServingError: NOT_FOUND.
    """
    served = self._acquire(version)
    self._release(served)
    return served.number, served.signatures

  def status(
      self, version: int | None = None, model_name: str | None = None
  ) -> list[tuple[int, str, str, str]]:
    """[(version, state, error code, error message)], newest first.

    A version without an error has the code "OK" and an empty message. As in TF Serving, the status
    does not depend on a label.

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

  def path(self, version: int | None = None) -> pathlib.Path:
    """The folder of a version that is served, for readers of the files beside the graph.

    Raises:
      ServingError: NOT_FOUND.
    """
    served = self._acquire(version)
    self._release(served)
    return served.path

  def refresh(self) -> None:
    """Looks at the base folder: loads a new version and retires old ones.

    The largest integer that can be loaded is served. If a version cannot be loaded, it is tried
    again when its files have changed, or after a minute. Meanwhile, the version that served before
    goes on. It also goes on if the folder is empty or cannot be read.
    """
    with self._refreshing:
      if self._closing.is_set():
        return
      found: dict[int, pathlib.Path] = {}
      before = self._unreadable
      try:
        found, self._unreadable = versions.versions(self._base), ""
      except FileNotFoundError:
        pass
      except OSError as error:
        self._unreadable = f"a folder that cannot be read ({error.strerror})"
      if self._unreadable not in ("", before) and self._served:  # otherwise `__init__` raises it
        _log.warning("%s is %s.", self._base, self._unreadable)
      for number in sorted(found, reverse=True):
        if number in self._served or self._load(number, found):
          self._retire(set(self._served) - {number})
          break

  def close(self, grace: float = 30.0) -> None:
    """Refuses new requests, answers waiting ones for up to `grace` seconds, and unloads.

    If a version is still being loaded then, this does not wait for it.
    """
    until = time.monotonic() + grace
    self._closing.set()
    self._batcher.close(grace)
    if self._refreshing.acquire(timeout=max(0.0, until - time.monotonic())):
      try:
        self._retire(set(self._served))
      finally:
        self._refreshing.release()

  def _check_serves(self) -> None:
    if not self._served:
      failures = "; ".join(
          f"{number} ({message})" for number, (_, _, message) in sorted(self._states.items())
      )
      raise InputError(
          f"expected a version in {self._base} that can be loaded, got"
          f" {failures or self._unreadable or 'none'}; {self._mend(failures)}."
      )

  def _mend(self, failures: str) -> str:
    """How a server that has nothing to serve gets a version."""
    if failures:
      return "export it again with imae-export, or copy it again, whole"
    if self._unreadable:
      return "mend its permissions, or give another --base"
    return versions.mend_of_version(self._base) or (
        "give the --base of an imae-export, or copy a version there, whole, in a folder named by"
        " an integer"
    )

  def _watch(self, poll_s: float) -> None:
    while not self._closing.wait(poll_s):
      try:
        self.refresh()
      except Exception:  # a watcher that ends would leave an old version in silence
        _log.exception("%s could not be looked at.", self._base)

  def _load(self, number: int, found: Mapping[int, pathlib.Path]) -> bool:
    """Whether a version can be served now."""
    looks = _looks(found[number])
    looked, again = self._failed.get(number, (None, 0.0))
    if looked == looks and time.monotonic() < again:
      return False
    self._set_state(number, "LOADING")
    try:
      served = Version(number, found[number])
    except Exception as error:  # a damaged file makes TensorFlow raise many types
      self._failed[number] = looks, time.monotonic() + _RETRY_S
      self._set_state(number, "END", code_of(error), sentence_of(error))
      if looked != looks and self._served:  # otherwise `__init__` raises it
        _log.warning("Version %d cannot be loaded: %s", number, sentence_of(error))
      return False
    if self._closing.is_set():
      served.close()
      return False
    with self._lock:
      self._served[number] = served
      self._states[number] = ("AVAILABLE", "OK", "")
    return True

  def _retire(self, numbers: Iterable[int]) -> None:
    """Sends no more requests to these versions and unloads them after their last answer."""
    for number in numbers:
      with self._lock:
        served = self._served.pop(number)
        served.users += 1  # this method itself, until the release below
        served.retired = True
        self._states[number] = ("UNLOADING", "OK", "")
      self._release(served)

  def _acquire(self, version: int | None) -> Version:
    if self._closing.is_set():
      raise batching.closing()
    with self._lock:
      number = max(self._served, default=-1) if version is None else version
      served = self._served.get(number)
      if served is None:
        raise _not_found(self.model_name, version)
      served.users += 1
      return served

  def _release(self, served: Version) -> None:
    with self._lock:
      served.users -= 1
      done = served.retired and not served.users
    if done:
      served.close()
      with self._lock:
        if self._states[served.number][0] == "UNLOADING":  # it may have been loaded again
          self._states[served.number] = ("END", "OK", "")

  def _set_state(self, number: int, state: str, code: str = "OK", message: str = "") -> None:
    with self._lock:
      self._states[number] = (state, code, message)


def _not_found(model_name: str, version: int | None) -> ServingError:
  which = f"Latest({model_name})" if version is None else f"Specific({model_name}, {version})"
  return ServingError("NOT_FOUND", f"Servable not found for request: {which}")


def _looks(path: pathlib.Path) -> Looks:
  """The names, sizes and times of a version's files."""
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
