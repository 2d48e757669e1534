"""Settings: fields of a dataclass, each with its help, its bounds and the range of a search.

    @dataclasses.dataclass(frozen=True)
    class Recipe:
      beta: float = setting(5.0, "Weight of L(z).", low=0, search=Range(0.5, 20.0))

`recipes.Recipe` is such a dataclass. The flags, the space of a search, changes given as text and
the list on the site are made from its fields.
"""

import dataclasses
import math
import re
import types
import typing
from typing import Any

_NUMBERS = {int: "an integer", float: "a number"}


@dataclasses.dataclass(frozen=True)
class Range:
  """Numbers from low to high on a log scale; integers if `integer`."""

  low: float
  high: float
  integer: bool = False


@dataclasses.dataclass(frozen=True)
class Choice:
  """Some values; widths of layers are written "500-1000"."""

  values: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Setting:
  """The description of a setting.

  Attributes:
    kind: int, float, bool, str, or tuple for widths of layers.
    default: its value if the user gives none.
    help: a sentence or two for people, without the default.
    low: the least value; None for no bound.
    above: a bound that is itself too small: values are greater; None for no bound.
    high: the greatest value; None for no bound.
    choices: the words that are values; a number may have words as values, too.
    optional: whether it may be None, written "none".
    search: what a search tries, `Range` or `Choice`; None if it cannot be searched.
    searched: whether a search tries it by default.
  """

  kind: type
  default: Any
  help: str
  low: float | None = None
  above: float | None = None
  high: float | None = None
  choices: tuple[str, ...] = ()
  optional: bool = False
  search: Range | Choice | None = None
  searched: bool = False

  def read(self, text: str) -> Any:
    """The value that a text stands for; the inverse of `write`.

    Raises:
      ValueError: "expected a number, 0 or more, got 'x'".
    """
    words = self._words()
    if text in words:
      return words[text]
    if self.kind is str and not self.choices:
      return text
    try:
      if self.kind is tuple:
        widths = tuple(int(width) for width in re.split("[-,]", text))
        if min(widths) >= 1:
          return widths
      elif self.kind in _NUMBERS:
        value = self.kind(text)
        if math.isfinite(value) and self._is_within(value):
          return value
    except (ValueError, OverflowError):  # Overflow: an integer of hundreds of digits
      pass
    raise ValueError(f"expected {self.expected()}, got {text!r}")

  def expected(self) -> str:
    """The values that are allowed, in words: "a number, 0 or more", "'mlp' or 'conv'"."""
    *most, last = [f"'{word}'" for word in self._words()] or [""]
    words = f"{', '.join(most)} or {last}" if most else last
    if self.kind is tuple:
      return "widths such as 500-1000"
    if self.kind not in _NUMBERS:
      return words or "text"
    return _NUMBERS[self.kind] + self._bounds() + (f", or {words}" if words else "")

  def _words(self) -> dict[str, Any]:
    words: dict[str, Any] = dict(zip(self.choices, self.choices))
    words |= {"none": None} if self.optional else {}
    return words | ({"true": True, "false": False} if self.kind is bool else {})

  def _is_within(self, value: float) -> bool:
    return not (
        (self.low is not None and value < self.low)
        or (self.above is not None and value <= self.above)
        or (self.high is not None and value > self.high)
    )

  def _bounds(self) -> str:
    if self.low is not None and self.high is not None:
      return f" from {self.low:g} to {self.high:g}"
    if self.low is not None:
      return f", {self.low:g} or more"
    below = "" if self.high is None else f", {self.high:g} or less"
    return below if self.above is None else f" above {self.above:g}{below}"


def setting(default: Any, help: str, **known: Any) -> Any:
  """A field of a dataclass that is a setting; its annotation gives the kind.

  Args:
    default: its value if the user gives none.
    help: a sentence or two for people, without the default.
    **known: other attributes of `Setting`, without `kind` and `optional`.
  """
  return dataclasses.field(default=default, metadata={"help": help, **known})


def settings_of(cls: type) -> dict[str, Setting]:
  """{name: `Setting`} of the fields of `cls` that `setting` made, in their order."""
  return {
      field.name: Setting(default=field.default, **_kind(field.type), **field.metadata)
      for field in dataclasses.fields(cls)
      if field.metadata
  }


def _kind(annotation: Any) -> dict[str, Any]:
  """`kind` and `optional` from an annotation such as `float | None` or `tuple[int, ...]`."""
  parts = typing.get_args(annotation) if isinstance(annotation, types.UnionType) else [annotation]
  kind = typing.get_origin(parts[0]) or parts[0]
  return {"kind": kind, "optional": types.NoneType in parts}


def write(value: Any) -> str:
  """A setting's value as text: "0.5", "none", "true", "500-1000"."""
  if isinstance(value, (tuple, list)):  # a list in a JSON file
    return "-".join(map(str, value))
  return "none" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
