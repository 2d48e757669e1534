"""Parts of the site that are made from the source, so that they cannot fall behind it."""

import ast
import functools
import pathlib
import re
import subprocess
import sys

ROOT = pathlib.Path(__file__).parent.parent
_ROOMS = ("imae_tf", "trainers", "export")
_VOICE = re.compile(r"\bexpect(ed|s)\b")
_NO_MEND = "As the message says."


# ---- errors -----------------------------------------------------------------------------------


def messages():
  """Every error message of the package: {room: [template]}, `<name>` where values stand.

  A message is a string that says what was expected, or that one of `raised_classes` is raised
  with.
  """
  found = {
      str(path.relative_to(ROOT)): list(
          dict.fromkeys(_messages_of(ast.parse(path.read_text())))
      )
      for path in _sources()
  }
  return {room: templates for room, templates in found.items() if templates}


@functools.cache
def raised_classes():
  """Names of `ImaeError` and of all classes that derive from it."""
  bases = {
      node.name: {base.id for base in node.bases if isinstance(base, ast.Name)}
      for path in _sources()
      for node in ast.walk(ast.parse(path.read_text()))
      if isinstance(node, ast.ClassDef)
  }
  ours, size = {"ImaeError"}, 0
  while len(ours) > size:
    size = len(ours)
    ours |= {name for name in bases if bases[name] & ours}
  return ours


def _sources():
  return [path for folder in _ROOMS for path in sorted((ROOT / folder).rglob("*.py"))]


def _messages_of(tree):
  skipped = _docstrings(tree)
  constants = _constants(tree)
  raised = {id(argument) for node in raises(tree) for argument in node.exc.args}
  for node in ast.walk(tree):
    if isinstance(node, ast.JoinedStr):
      skipped |= {id(part) for part in ast.walk(node) if part is not node}
    if id(node) in skipped or not isinstance(node, (ast.JoinedStr, ast.Constant)):
      continue
    if isinstance(getattr(node, "value", ""), str):
      template = _template(node, constants)
      if (id(node) in raised and " " in template) or _VOICE.search(template):
        yield template


def _docstrings(tree):
  return {
      id(node.body[0].value)
      for node in ast.walk(tree)
      if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef))
      and node.body
      and isinstance(node.body[0], ast.Expr)
  }


def raises(tree):
  """The `raise` statements of a module with an error of ours."""
  return [
      node
      for node in ast.walk(tree)
      if isinstance(node, ast.Raise)
      and isinstance(node.exc, ast.Call)
      and getattr(node.exc.func, "id", None) in raised_classes()
  ]


def _constants(tree):
  """{name: text} of the module's own strings."""
  return {
      node.targets[0].id: node.value.value
      for node in tree.body
      if isinstance(node, ast.Assign)
      and isinstance(node.targets[0], ast.Name)
      and isinstance(node.value, ast.Constant)
      and isinstance(node.value.value, str)
  }


def _template(node, constants):
  if isinstance(node, ast.Constant):
    return node.value.replace("{}", "<value>")
  parts = (
      part.value if isinstance(part, ast.Constant) else _placeholder(part.value, constants)
      for part in node.values
  )
  return "".join(parts).replace("{}", "<value>")


def _placeholder(value, constants):
  """What a reader may call the value: the last name in its expression."""
  if isinstance(value, ast.Name):
    return constants.get(value.id, f"<{value.id}>")
  attribute = isinstance(value, ast.Attribute) and not value.attr.startswith("_")
  return f"<{value.attr}>" if attribute else "<value>"


def error_tables():
  """A table for each room: what the message says, and its mend."""
  return "\n\n".join(
      f"### {room}\n\n| Message | Mend |\n|---|---|\n"
      + "\n".join("| " + " | ".join(map(_cell, _parts(template))) + " |" for template in templates)
      for room, templates in messages().items()
  )


def _parts(template):
  """(what was expected and what came, the mend): it follows the semicolon, or a full stop."""
  cut = re.match(r"(.+?)(?:; |[.] (?=[A-Z]))(?!got|they)(.*)", template, re.DOTALL)
  return cut.groups() if cut else (template, "")


def _cell(text):
  text = " ".join(text.split()).replace("|", r"\|")
  return f"`{text}`" if text else _NO_MEND


# ---- numbers ----------------------------------------------------------------------------------


def number_list():
  """The definitions that reports print."""
  from imae_tf.metrics.definitions import DEFINITIONS

  return "\n\n".join(
      f"**{d.name}** `{key}`{d.unit and f', {d.unit}'}\n: {d.meaning}"
      + (f"\n\n  *When not to trust it:* {d.caution}" if d.caution else "")
      for key, d in DEFINITIONS.items()
  )


# ---- settings and methods ----------------------------------------------------------------------


def setting_table():
  """Every setting: the paper's value, what it may be, what a search tries, what it does."""
  from imae_tf import recipes
  from imae_tf._shared import method_table
  from imae_tf._shared.setting import write

  rows = [("Setting", "The paper's", "May be", "Searched in", "What it does"), ("---",) * 5]
  for name, known in {**recipes.SETTINGS, **recipes.SIZES}.items():
    methods = ", ".join(method_table.methods_with(name))
    rows.append((
        f"`{name}`", f"`{write(known.default)}`", known.expected(), _searched(known.search),
        known.help + (f" Of {methods} alone." if methods else ""),
    ))
  return _table(rows)


def _searched(part):
  if part is None:
    return ""
  values = getattr(part, "values", None)
  return ", ".join(values) if values else f"{part.low:g} to {part.high:g}"


def method_list():
  """The methods that are compared: what each maximises, its weights, where it comes from."""
  from imae_tf._shared.method_table import METHODS

  rows = [("id", "method", "maximises", "weights beside `lam`", "reference"), ("---",) * 5]
  rows += [
      (f"`{key}`", m.name, m.maximises, ", ".join(f"`{w}`" for w in m.weights), m.reference)
      for key, m in METHODS.items()
  ]
  return _table(rows)


def _table(rows):
  lines = [" | ".join(cell.replace("|", r"\|") for cell in row) for row in rows]
  return "\n".join(f"| {line} |" for line in lines)


# ---- programs ---------------------------------------------------------------------------------


def programs():
  """{console script: module}, of setup.py."""
  text = (ROOT / "setup.py").read_text()
  return dict(re.findall(r'"(imae-\w+) = ([\w.]+):cli"', text))


def program_help():
  """What each program says to --help."""
  return "\n\n".join(
      f"## {name}\n\n```text\n{_help(name, module)}\n```" for name, module in programs().items()
  )


def _help(name, module):
  code = f"import sys; from {module} import cli; sys.argv = ['{name}', '--help']; cli()"
  shown = subprocess.run(
      [sys.executable, "-P", "-c", code], capture_output=True, text=True, check=False
  )
  if not shown.stdout:
    raise RuntimeError(shown.stderr)
  return shown.stdout.partition("\nTry --helpfull")[0].strip()
