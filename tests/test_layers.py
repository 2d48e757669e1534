"""The order of the rooms: each imports only what stands below it, and no import goes in a circle.

All imports count, those inside functions too; those for type checkers alone do not.
"""

import ast
import graphlib
import pathlib

import pytest

HERE = pathlib.Path(__file__).parent.parent
# "" is imae_tf/__init__.py
FACADES = {"", "callbacks", "clusterer", "example", "plots", "report", "tuning"}
MATHEMATICS = {"estimators", "networks", "objective", "optimizers", "posterior", "vat"}
# From the top down. The rooms of a line may import each other.
LAYERS = [
    {"export", "trainers"},
    FACADES,
    {"comparison"},
    {"search"},
    {"training"},
    {"reporting"},
    {"recipes"},
    {"metrics"},
    {"methods"},
    {"models"},
    MATHEMATICS,
    {"data"},
    {"_shared"},
    {"errors"},
]
MOST_ENTRIES = 25


def _modules():
  """{name: path} of the package as it is installed; trainers/ and export/ are rooms of it."""
  found = {}
  for room in ("imae_tf", "trainers", "export"):
    for path in (HERE / room).rglob("*.py"):
      parts = path.relative_to(HERE).with_suffix("").parts
      parts = parts if room == "imae_tf" else ("imae_tf", *parts)
      found[".".join(parts).removesuffix(".__init__")] = path
  return found


MODULES = _modules()


def _is_for_type_checkers(node):
  return isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING")


def _imports(node):
  """Names of what the code below a node imports."""
  for child in ast.iter_child_nodes(node):
    if isinstance(child, ast.Import):
      yield from (alias.name for alias in child.names)
    elif isinstance(child, ast.ImportFrom):
      assert not child.level, "a relative import"
      yield from (f"{child.module}.{alias.name}" for alias in child.names)
    elif _is_for_type_checkers(child):
      for other in child.orelse:
        yield from _imports(ast.Module([other], []))
    else:
      yield from _imports(child)


def _module_of(name):
  """The module of ours that an imported name is, or is in; None for others'."""
  while name and name not in MODULES:
    name = name.rpartition(".")[0]
  return name or None


GRAPH = {
    name: set(map(_module_of, _imports(ast.parse(path.read_text())))) - {None, name}
    for name, path in MODULES.items()
}


def _layer(module):
  room = module.split(".")[1] if "." in module else ""
  places = [i for i, rooms in enumerate(LAYERS) if room in rooms]
  assert places, f"{module} has no place in LAYERS: give its room one"
  return places[0]


def test_the_imports_are_found():
  assert "imae_tf.estimators" in GRAPH["imae_tf.objective"]
  assert "imae_tf.training.runs" in GRAPH["imae_tf.trainers.train"]  # inside a function
  assert "imae_tf.models" not in GRAPH["imae_tf.training.runs"]  # for type checkers


def test_no_import_goes_in_a_circle():
  try:
    graphlib.TopologicalSorter(GRAPH).prepare()
  except graphlib.CycleError as error:
    pytest.fail(" <- ".join(error.args[1]))


def test_a_room_imports_only_what_stands_below_it():
  above = [
      f"{module} imports {imported}"
      for module, imports in GRAPH.items()
      for imported in sorted(imports)
      if _layer(imported) < _layer(module)
  ]
  assert not above


def test_the_top_of_the_package_can_be_taken_in_at_a_glance():
  entries = [p.name for p in (HERE / "imae_tf").iterdir() if p.name != "__pycache__"]
  assert len(entries) <= MOST_ENTRIES, sorted(entries)
