"""Loads one version of a model as TF Serving does, and runs its signatures, for `core`.

Each version has a session of its own. Errors have the words of TF Serving. `core` decides when a
version is loaded and which requests it runs.
"""

import pathlib
import re
from collections.abc import Callable
from collections.abc import Set
from typing import Any

import tensorflow as tf
from tensorflow.core.protobuf import config_pb2
from tensorflow.core.protobuf import error_codes_pb2

from imae_tf.errors import first_line
from imae_tf.export import warmup
from imae_tf.export.server.batching import Arrays
from imae_tf.export.server.batching import ServingError

_ASSERTION = re.compile(r"assertion failed: \[(.*?)\]\s*$", re.MULTILINE)


class Version:
  """A SavedModel in a session of its own, warmed up.

  Attributes:
    number: number of the version.
    path: folder of the version.
    signatures: {name: SignatureDef}.
    users: number of requests that are under way; the server's lock guards it.
    retired: whether new requests go elsewhere; the server's lock guards it.
  """

  def __init__(self, number: int, path: pathlib.Path) -> None:
    self.number, self.path, self.users, self.retired = number, path, 0, False
    self._session = tf.compat.v1.Session(graph=tf.Graph())
    try:
      with self._session.graph.as_default():
        loaded = tf.compat.v1.saved_model.load(self._session, ["serve"], str(path))
      self.signatures = dict(loaded.signature_def)
      self._functions = {
          name: self._function(name)
          for name, signature in self.signatures.items()
          if signature.inputs  # a SavedModel adds a signature without inputs
      }
      for signature, inputs in warmup.read(path):
        self.run(signature, self.checked(signature, inputs))
    except BaseException:
      self.close()
      raise

  def checked(self, name: str, inputs: Arrays) -> Arrays:
    """The inputs in the order of their names, checked to have the signature's names and dtypes.

    Raises:
      ServingError: their names or dtypes are not the signature's.
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

  def run(self, name: str, inputs: Arrays) -> Arrays:
    """Runs a signature: {name: array}; `inputs` must be in the order of their names.

    Raises:
      ServingError: the graph refuses the inputs.
    """
    try:
      outputs = self._functions[name](*inputs.values())
    except tf.errors.OpError as error:
      raise ServingError(code_of(error), sentence_of(error)) from error
    return dict(zip(sorted(self._signature(name).outputs), outputs, strict=True))

  def close(self) -> None:
    """Frees the session; afterwards nothing can be run."""
    self._session.close()
    self._functions = {}

  def _signature(self, name: str) -> Any:
    if name not in self._functions:
      raise no_signature(name)
    return self.signatures[name]

  def _function(self, name: str) -> Callable[..., list[Any]]:
    # Session.run checks shapes itself and would refuse a request in other words than the graph. A
    # server's session does not check them, and neither does a callable.
    signature = self.signatures[name]
    options = config_pb2.CallableOptions(
        feed=[signature.inputs[key].name for key in sorted(signature.inputs)],
        fetch=[signature.outputs[key].name for key in sorted(signature.outputs)],
    )
    return self._session._make_callable_from_options(options)


def no_signature(name: str) -> ServingError:
  """The error of a request for a signature that is not there."""
  return ServingError("FAILED_PRECONDITION", f'Serving signature key "{name}" not found.')


def rows_of(inputs: Arrays) -> int | None:
  """The common first dimension; None if there is none, and then the graph will refuse."""
  sizes = {value.shape[0] if value.ndim else None for value in inputs.values()}
  return sizes.pop() if len(sizes) == 1 else None


def check_names(got: Set[str], expected: Set[str]) -> None:
  """Raises a ServingError of INVALID_ARGUMENT unless both sets of input names are the same."""
  if got != expected:
    named = [",".join(sorted(names)) for names in (got, expected, got - expected, expected - got)]
    raise ServingError(
        "INVALID_ARGUMENT",
        f"input size does not match signature: {len(got)}!={len(expected)} len({{{named[0]}}}) !="
        f" len({{{named[1]}}}). Sent extra: {{{named[2]}}}. Missing but required: {{{named[3]}}}.",
    )


def code_of(error: Exception) -> str:
  """The canonical name of the gRPC status of an error."""
  if isinstance(error, ServingError):
    return error.code
  return error_codes_pb2.Code.Name(getattr(error, "error_code", tf.errors.UNKNOWN))


def sentence_of(error: Exception) -> str:
  """The sentence of an assertion in the graph, or the main line of TensorFlow's message."""
  found = _ASSERTION.search(str(error))
  return found.group(1) if found else first_line(error)
