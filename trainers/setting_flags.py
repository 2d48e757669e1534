"""Makes flags from the settings of a recipe, which give the help, the bounds and the reader."""

from collections.abc import Iterable
from typing import Any

from absl import flags

from imae_tf import recipes
from imae_tf._shared.method_table import methods_with
from imae_tf._shared.setting import Setting
from imae_tf._shared.setting import write


class _Reader(flags.ArgumentParser, flags.ArgumentSerializer):
  """absl's view of a setting."""

  def __init__(self, setting: Setting) -> None:
    self._setting = setting
    self.syntactic_help = setting.expected()

  def parse(self, argument: Any) -> Any:
    return self._setting.read(argument) if isinstance(argument, str) else argument

  def serialize(self, value: Any) -> str:
    return write(value)


def define(names: Iterable[str], module: str) -> None:
  """Defines a flag for each of these settings of a recipe, as flags of a module.

  A flag that is not given leaves the recipe's value, so its default is None.

  Args:
    names: names from `recipes.SETTINGS`.
    module: `__name__` of the module that the flags belong to.
  """
  for name in names:
    setting = recipes.SETTINGS[name]
    text = f"{setting.help}{_methods(name)} Default: the recipe's."
    if setting.kind is bool:  # absl has --noNAME for it
      flags.DEFINE_bool(name, None, text, module_name=module)
    else:
      reader = _Reader(setting)
      flags.DEFINE(reader, name, None, text, serializer=reader, module_name=module)


def define_size(name: str, module: str) -> flags.FlagHolder:
  """Defines the flag of one of `recipes.SIZES`, as a flag of a module."""
  setting = recipes.SIZES[name]
  reader = _Reader(setting)
  return flags.DEFINE(
      reader, name, setting.default, setting.help, serializer=reader, module_name=module
  )


def _methods(name: str) -> str:
  methods = methods_with(name)
  return f" A weight of --method={'|'.join(methods)} alone." if methods else ""
