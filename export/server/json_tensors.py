"""Reads and writes the JSON of TF Serving's REST API, for `rest`.

    {"signature_name": ..., "instances": [row, ...]}  ->  {"predictions": [row, ...]}
    {"signature_name": ..., "inputs": columns}        ->  {"outputs": columns}

If the signature has one input or output, a row or the columns are a plain value; if it has more,
they are an object with their names. Bytes are {"b64": base64}. NaN, Infinity and -Infinity are
numbers. A number that float32 cannot hold is rounded, or becomes infinite. NumPy converts all
numbers at once; values are checked one by one only to find out what is wrong.
"""

import base64
import binascii
import json
import reprlib
import sys
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from imae_tf.export.server.batching import Arrays
from imae_tf.export.server.batching import ServingError

_WHITESPACE = " \t\n\r"
_JSON_TYPES = {
    type(None): "Null", bool: "False or True", dict: "Object", list: "Array", str: "String",
    int: "Number", float: "Number",
}


class Request:
  """A request body.

  Attributes:
    signature_name: the signature that it names; "" if it names none.

  Args:
    body: bytes.

  Raises:
    ServingError: INVALID_ARGUMENT.
  """

  def __init__(self, body: bytes) -> None:
    self.document = parse(body)
    self.signature_name = self.document.get("signature_name", "")
    if not isinstance(self.signature_name, str):
      raise _invalid(
          f"JSON Value: {_shown(self.document)} not formatted correctly. 'signature_name' key"
          " must be a string value."
      )

  @property
  def rows(self) -> int:
    """The least number of rows it has, found without reading the rows."""
    rows = self.document.get("instances", self.document.get("inputs"))
    return len(rows) if isinstance(rows, list) else 0

  def inputs(self, signature: Any) -> tuple[Arrays, bool]:
    """The arrays of the request, {name: array}, and whether it came in rows.

    Args:
      signature: the SignatureDef.

    Raises:
      ServingError: INVALID_ARGUMENT.
    """
    dtypes = {name: tf.as_dtype(info.dtype) for name, info in sorted(signature.inputs.items())}
    if "instances" in self.document and "inputs" in self.document:
      raise _invalid(
          "Not formatted correctly expecting only one of 'inputs' or 'instances' keys to exist"
      )
    in_rows = "instances" in self.document
    if not in_rows and "inputs" not in self.document:
      raise _invalid("Missing 'inputs' or 'instances' key")
    try:
      if in_rows:
        values = _columns_of_rows(self.document["instances"], dtypes)
      else:
        values = _columns(self.document["inputs"], dtypes)
      return {name: self._array(values[name], name, dtypes[name]) for name in dtypes}, in_rows
    except RecursionError:
      raise _too_deep() from None

  def _array(self, value: Any, name: str, dtype: tf.DType) -> np.ndarray:
    try:
      if dtype == tf.string:
        return _strings(value)
      return _numbers(value, dtype)
    except ServingError as error:
      raise ServingError(
          error.code, f"Failed to process input {name}. Error: {error.message}"
      ) from None


def parse(body: bytes) -> dict[str, Any]:
  """The JSON object of a request body (bytes).

  Raises:
    ServingError: INVALID_ARGUMENT.
  """
  if not body:
    raise _invalid("JSON Parse error: The document is empty")
  try:
    # Like TF Serving, this skips a byte order mark and ignores what follows the object.
    document, _ = _decode(str(body, "utf-8-sig").lstrip(_WHITESPACE))
  except RecursionError:
    raise _too_deep() from None
  except ValueError as error:  # UnicodeDecodeError is one, too
    raise _invalid(f"JSON Parse error: Invalid value. {str(error)[:200]}") from None
  if not isinstance(document, dict):
    raise _invalid(f"JSON Value: {_shown(document)} Is not object")
  return document


def response(outputs: Arrays, in_rows: bool) -> bytes:
  """The body (bytes) for {name: array}; the first dimension of each array is the batch."""
  if len(outputs) == 1:
    text = _written(_rows(next(iter(outputs.values()))))
  elif in_rows:
    rows = zip(*map(_rows, outputs.values()), strict=True)
    text = _written(dict(zip(outputs, row)) for row in rows)
  else:
    named = (f"{json.dumps(name)}:{_written(_rows(value))}" for name, value in outputs.items())
    text = f"{{{','.join(named)}}}"
  return f'{{"{"predictions" if in_rows else "outputs"}":{text}}}'.encode()


def _columns_of_rows(rows: Any, dtypes: Mapping[str, tf.DType]) -> dict[str, list[Any]]:
  """{name: list of a value for each row}."""
  if not isinstance(rows, list):
    raise _invalid(f"JSON Value: {_shown(rows)} Expecting 'instances' to be an list/array")
  if not rows:
    raise _invalid("No values in 'instances' array")
  if not _is_object(rows[0]):
    for i, row in enumerate(rows):
      if _is_object(row):
        raise _invalid(f"Expecting value/list but got object at item {i} of input list")
    return _only_column(rows, dtypes, "instances is a plain list, but expecting list of objects")
  for i, row in enumerate(rows):
    if not _is_object(row):
      raise _invalid(f"Expecting object but got list at item {i} of input list")
    if row.keys() != dtypes.keys():
      raise _invalid(
          f"Failed to process element: {i} of 'instances' list. JSON object: {_shown(row)} keys"
          f" must be equal to: {','.join(dtypes)}"
      )
  return {name: [row[name] for row in rows] for name in dtypes}


def _columns(columns: Any, dtypes: Mapping[str, tf.DType]) -> dict[str, Any]:
  if not _is_object(columns):
    return _only_column(
        columns, dtypes, "inputs is a plain value/list, but expecting an object"
    )
  for name in dtypes:
    if name not in columns:
      raise _invalid(f"Missing named input: {name} in 'inputs' object.")
  return columns


def _only_column(value: Any, dtypes: Mapping[str, tf.DType], otherwise: str) -> dict[str, Any]:
  if len(dtypes) > 1:
    raise _invalid(
        f"{otherwise} as multiple input tensors required as per tensorinfo_map:"
        f" {', '.join(dtypes)}"
    )
  return {next(iter(dtypes)): value}


def _numbers(value: Any, dtype: tf.DType) -> np.ndarray:
  """A nested list as an array of floats."""
  if not dtype.is_floating:
    raise ServingError(
        "UNIMPLEMENTED", f"Conversion of JSON Value: {_shown(value)} to type: {dtype.name}"
    )
  try:
    # Without `object`, a text among the numbers would make every entry as wide as the text.
    array = np.array(value, object)
    floats = array.astype(np.float64)
  except (ValueError, TypeError, OverflowError):  # lists of several lengths, other things
    _check_leaves(value, dtype)
    raise _too_deep() from None
  # NumPy takes true for 1 without an error.
  if not set(map(type, array.ravel().tolist())) <= {int, float}:
    _check_leaves(value, dtype)
  with np.errstate(over="ignore"):
    return floats.astype(dtype.as_numpy_dtype)


def _strings(value: Any) -> np.ndarray:
  """Bytes of strings and of {"b64": ...} as an array of objects."""
  shape = _shape(value)
  flat: list = []
  _flatten(value, shape, 0, flat)
  array = np.empty(len(flat), "O")
  array[:] = [_bytes(leaf) for leaf in flat]
  return array.reshape(shape)


def _check_leaves(value: Any, dtype: tf.DType) -> None:
  """Raises an error that says what is wrong with a nested list of numbers, if anything is."""
  flat: list = []
  _flatten(value, _shape(value), 0, flat)
  for leaf in flat:
    if isinstance(leaf, bool) or not isinstance(leaf, (int, float)):
      raise _type_error(leaf, dtype)
    if isinstance(leaf, int) and abs(leaf) > sys.float_info.max:
      raise _invalid(f"JSON Parse error: Number too big to be stored in double: {_shown(leaf)}")


def _shape(value: Any) -> list[int]:
  """The shape of a nested list, as its first elements have it."""
  shape = []
  while isinstance(value, list):
    shape.append(len(value))
    value = value[0] if value else None
  return shape


def _flatten(value: Any, shape: Sequence[int], level: int, flat: list[Any]) -> None:
  """Appends the leaves of a nested list that has the same shape everywhere."""
  if not isinstance(value, list):
    if level != len(shape):
      raise _ragged(f"{_shown(value)} at level {level}", shape, level)
    flat.append(value)
    return
  if level >= len(shape) or len(value) != shape[level]:
    raise _ragged(f"a list of {len(value)} at level {level}", shape, level)
  for inner in value:
    _flatten(inner, shape, level + 1, flat)


def _ragged(got: str, shape: Sequence[int], level: int) -> ServingError:
  if level < len(shape):
    expected = f"Expecting tensor size: {shape[level]}"
  else:
    expected = "Expecting shape of a value"
  return _invalid(f"{expected} at level {level} of shape {shape} but got: {got}")


def _bytes(value: Any) -> bytes:
  if isinstance(value, str):
    try:
      return value.encode()
    except UnicodeEncodeError:
      raise _invalid("JSON Parse error: The surrogate pair in string is invalid.") from None
  if not _is_base64(value):
    if isinstance(value, dict):
      raise _invalid(f"JSON Value: {_shown(value)} not formatted correctly for base64 data")
    raise _type_error(value, tf.string)
  text = value["b64"]
  try:
    return base64.b64decode(text, validate=True)
  except (binascii.Error, ValueError):
    pass
  text = "".join(text.split())  # broken into lines, or without padding
  try:
    return base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
  except (binascii.Error, ValueError):
    raise _invalid("Unable to base64 decode") from None


def _is_object(value: Any) -> bool:
  return isinstance(value, dict) and not _is_base64(value)


def _is_base64(value: Any) -> bool:
  return isinstance(value, dict) and len(value) == 1 and isinstance(value.get("b64"), str)


def _rows(array: np.ndarray) -> Iterator[Any]:
  """Yields the rows of an array one by one, as values that JSON has."""
  if not array.ndim:
    raise _invalid("expected outputs with a row for each input, got a single value; use gRPC.")
  leaves: dict[str, Callable[[Any], Any]] = {"O": _base64, "f": _nine_digits}
  leaf = leaves.get(array.dtype.char, lambda value: value)
  return (_mapped(leaf, array[i : i + 1].tolist()[0]) for i in range(len(array)))


def _mapped(function: Callable[[Any], Any], value: Any) -> Any:
  if isinstance(value, list):
    return [_mapped(function, inner) for inner in value]
  return function(value)


def _base64(content: bytes) -> dict[str, str]:
  return {"b64": base64.b64encode(content).decode()}


def _nine_digits(number: float) -> float:
  """A float32 with nine digits, which are enough, instead of the seventeen of a double."""
  return float(f"{number:.9g}")


def _written(rows: Iterable[Any]) -> str:
  # The rows are encoded one by one, because no other thread runs while the encoder is in C.
  return f"[{','.join(map(_encode, rows))}]"


_encode = json.JSONEncoder(separators=(",", ":")).encode
_decode = json.JSONDecoder().raw_decode


def _type_error(value: Any, dtype: tf.DType) -> ServingError:
  kind = _JSON_TYPES[type(value)]
  name = {tf.float32: "float", tf.float64: "double"}.get(dtype, dtype.name)
  return _invalid(f"JSON Value: {_shown(value)} Type: {kind} is not of expected type: {name}")


def _too_deep() -> ServingError:
  return _invalid("JSON Parse error: expected lists nested like a tensor's, got far more levels.")


def _shown(value: Any) -> str:
  text = reprlib.repr(value)
  return text if len(text) <= 100 else text[:100] + "..."


def _invalid(message: str) -> ServingError:
  return ServingError("INVALID_ARGUMENT", message)
