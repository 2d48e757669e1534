"""The site: what it says is there, every public name explains itself, and it builds."""

import ast
import importlib
import importlib.util
import inspect
import pathlib
import re
import subprocess
import sys

import numpy as np
import pytest

import imae_tf

ROOT = pathlib.Path(__file__).parent.parent
DOCS = ROOT / "docs"
pytestmark = pytest.mark.skipif(
    not DOCS.exists(), reason="the site lies in a checkout, which this is not"
)
TOP = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")]
PAGES = sorted(DOCS.rglob("*.md")) + TOP
ROOMS = [ROOT / folder for folder in ("imae_tf", "trainers", "export")]
SKIPPED = re.compile(r"^```.*?^```|<!--.*?-->", re.MULTILINE | re.DOTALL)
INCLUDED = re.compile(r"^```\{include\} (\S+)\n(?!:start)", re.MULTILINE)


@pytest.fixture(scope="module")
def generated():
  """docs/generated.py as a module."""
  spec = importlib.util.spec_from_file_location("generated", DOCS / "generated.py")
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  return module


# ---- pages ------------------------------------------------------------------------------------


def anchors(page):
  """The ids that MyST and GitHub give to a page's headings."""
  text = page.read_text()
  for whole in INCLUDED.findall(text):
    text += (page.parent / whole).read_text()
  headings = re.findall(r"^#+ (.+)$", SKIPPED.sub("", text), re.MULTILINE)
  return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_resolve(page):
  text = SKIPPED.sub("", page.read_text())
  for target in re.findall(r"\]\(([^)\s]+)\)|<img src=\"([^\"]+)", text):
    target = "".join(target)
    if not re.match(r"https?://", target):
      path, _, anchor = target.partition("#")
      linked = (page.parent / path).resolve() if path else page
      assert linked.exists(), target
      assert not anchor or anchor in anchors(linked), target


def test_every_page_is_in_the_table_of_contents():
  listed = set()
  for page in DOCS.rglob("*.md"):
    for block in re.findall(r"```\{toctree\}(.*?)```", page.read_text(), re.DOTALL):
      entries = [line for line in block.splitlines() if line and not line.startswith(":")]
      listed |= {(page.parent / f"{entry}.md").resolve() for entry in entries}
  assert listed == set(DOCS.rglob("*.md")) - {DOCS / "index.md"}


def test_commands_are_console_scripts(generated):
  named = {name for page in PAGES
           for name in re.findall(r"(?:^|[\s`])(imae-[a-z]+)\b(?!\.)", page.read_text())}
  assert named and named <= generated.programs().keys()


def test_flags_of_commands_exist(generated):
  """Each flag that a page gives to a program is one of that program's."""
  told = {name: generated._help(name, module) for name, module in generated.programs().items()}
  checked = 0
  for page in PAGES:
    text = page.read_text().replace("\\\n", " ")
    for name, arguments in re.findall(r"\b(imae-[a-z]+)((?: +--[^\s`]+)+)", text):
      for flag in re.findall(r"--(?:no)?([a-z_]+)", re.sub(r"=\S+", "", arguments)):
        if flag == "help":
          continue
        assert re.search(rf"--(\[no\])?(no)?{flag}:", told[name]), (page, name, flag)
        checked += 1
  assert checked > 20


def test_the_changelog_begins_with_this_version():
  versions = re.findall(r"^## (?:\[)?([\w.]+)", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
  assert versions[0] == imae_tf.__version__


# ---- what the pages claim ---------------------------------------------------------------------


def test_the_bias_of_the_estimates_is_that_of_the_page():
  """The page's table, of ten independent factors with Var[mu] = 0.75, noise 0.25."""
  from imae_tf import estimators
  from imae_tf import objective

  row = re.search(r"^\| 128 \|(.*)\|$", (DOCS / "numbers.md").read_text(), re.MULTILINE).group(1)
  told = [float(cell) for cell in row.split("|")]
  rng = np.random.default_rng(0)
  measured = []
  for _ in range(40):
    mean = rng.normal(0, 0.75**0.5, (128, 10)).astype("float32")
    log_scale = np.full((128, 10), np.log(0.5), "float32")
    z = (mean + 0.5 * rng.normal(size=mean.shape)).astype("float32")
    log_y = np.zeros((128, 1), "float32")
    log_z = estimators.log_normal(z, mean, log_scale)
    both = [
        estimators.log_marginals(z, mean, log_scale, log_y, leave_one_out=out)
        for out in (False, True)
    ]
    measured.append(
        [np.mean(objective.mutual_information_of_all_z(log_z, m)) for m in both]
        + [np.mean(objective.total_correlation(log_y, m)) for m in both]
    )
  np.testing.assert_allclose(np.mean(measured, axis=0), told, atol=0.15)


@pytest.mark.parametrize(
    ("provoke", "room"),
    [
        (lambda folder: imae_tf.recipes.get("best", "digits"), "imae_tf/recipes/tuned.py"),
        (lambda folder: imae_tf.data.load(f"{folder}/no.npz"), "imae_tf/data/arrays.py"),
        (lambda folder: imae_tf.data.load("digit"), "imae_tf/data/tfds_images.py"),
        (lambda folder: imae_tf.networks.conv((30, 30, 1)), "imae_tf/networks/convolutional.py"),
        (lambda folder: _workdir().read_config(folder), "imae_tf/training/run_folder.py"),
        (lambda folder: _damaged_history(folder), "imae_tf/training/run_folder.py"),
    ],
    ids=["recipe", "file", "name", "network", "workdir", "history"],
)
def test_errors_stand_on_the_page_of_errors(generated, tmp_path, provoke, room):
  with pytest.raises(imae_tf.errors.ImaeError) as error:
    provoke(tmp_path)
  patterns = [
      re.sub(r"<\w+>", ".*", re.escape(template)) for template in generated.messages()[room]
  ]
  assert any(re.fullmatch(pattern, str(error.value), re.DOTALL) for pattern in patterns)


def _workdir():
  from imae_tf.training import run_folder

  return run_folder


def _damaged_history(folder):
  (folder / "history.csv").write_text("epoch,loss\nx,y\n")
  return _workdir().read_history(folder)


def test_every_kind_of_error_is_explained(generated):
  page = (DOCS / "errors.md").read_text()
  rows = set(re.findall(r"^\| `(\w+)`", page, re.MULTILINE))
  assert generated.raised_classes() - rows == set()


def test_every_raise_has_its_message_on_the_page(generated):
  """What is raised is a text, or what a function of the same file says."""
  silent = [
      f"{path.name}:{node.lineno}"
      for room in ROOMS
      for path in room.rglob("*.py")
      for node in generated.raises(ast.parse(path.read_text()))
      if not any(
          isinstance(argument, (ast.Constant, ast.JoinedStr, ast.Call, ast.Name))
          for argument in node.exc.args
      )
  ]
  assert not silent


# ---- docstrings -------------------------------------------------------------------------------


def modules():
  """(name, path) of the modules of the package; programs are those with flags."""
  for folder in ROOMS:
    for path in sorted(folder.rglob("*.py")):
      parts = path.relative_to(ROOT).with_suffix("").parts
      name = ".".join(parts if folder.name == "imae_tf" else ("imae_tf", *parts))
      if path.name != "__init__.py":
        if "import *" not in path.read_text():  # else a facade, whose names stand elsewhere
          yield name, path
      elif "def " in path.read_text() and name != "imae_tf.__init__":  # more than a facade
        yield name.removesuffix(".__init__"), path


def has_flags(path):
  return "DEFINE_" in path.read_text()


LIBRARY = [name for name, path in modules() if not has_flags(path)]
# What user code calls; the other rooms are the programs' own.
CONTRACT = [f"imae_tf.{name}" for name in imae_tf.__all__
            if name.islower() and name[0] != "_" and name not in imae_tf._MEMBERS]
# What data and metrics take from elsewhere.
CONTRACT += [
    f"imae_tf.{name}"
    for name in (
        "data.loading", "data.pipelines", "metrics.measuring", "metrics.clustering",
        "metrics.dataset_information", "metrics.label_free",
    )
]
CONTRACT.append("imae_tf.export.client")
DEFERRED = re.compile(r"(as in|are those of|See|As) `|[Aa]rguments (and errors )?as (in|there)")


def public(owner, module):
  """(owner, name, function or class) of all public names of a module or a class."""
  for name, value in vars(owner).items():
    function = getattr(value, "__func__", getattr(value, "fget", value))
    ours = getattr(function, "__module__", None) == module.__name__
    if ours and not name.startswith("_") and callable(function):
      yield owner, name, function
      if inspect.isclass(function):
        yield from public(function, module)


def is_a_hook(owner, name):
  """Whether a library calls it: Keras's build, call, get_config, on_epoch_end, ..."""
  bases = owner.__mro__ if inspect.isclass(owner) else ()
  return any(name in vars(b) for b in bases if not b.__module__.startswith("imae_tf"))


@pytest.mark.parametrize(("name", "path"), list(modules()))
def test_modules_have_docstrings(name, path):
  """Of a program it is what --help begins with."""
  assert ast.get_docstring(ast.parse(path.read_text()))


@pytest.mark.parametrize("name", LIBRARY)
def test_public_names_have_docstrings(name):
  module = importlib.import_module(name)
  bare = [
      f"{owner.__name__}.{n}"
      for owner, n, _ in public(module, module)
      if not inspect.getdoc(getattr(owner, n)) and not is_a_hook(owner, n)
  ]
  assert not bare


@pytest.mark.parametrize("name", CONTRACT)
def test_arguments_are_explained(name):
  """In Args or in the text; shapes that a whole file shares, in its docstring or the class's."""
  module = importlib.import_module(name)
  silent = []
  for owner, n, function in public(module, module):
    text = inspect.getdoc(getattr(owner, n)) or ""
    exempt = function is imae_tf.recipes.Recipe  # by comments, which the site shows
    exempt |= inspect.isclass(function) and issubclass(function, Exception)
    if exempt or is_a_hook(owner, n) or DEFERRED.search(text):
      continue
    described = [module, *getattr(owner, "__mro__", ()), *getattr(function, "__mro__", ())]
    text += "".join(other.__doc__ or "" for other in described)
    silent += [
        f"{owner.__name__}.{n}: {parameter}"
        for parameter in inspect.signature(function).parameters
        if parameter not in ("self", "cls", "args", "kwargs")
        and not re.search(rf"\b{parameter}\b", text)
    ]
  assert not silent


def test_every_module_has_its_place():
  """On one page of the API, or, with flags, among the programs."""
  shown = re.findall(
      r"automodule:: (\S+)", "".join(page.read_text() for page in (DOCS / "api").glob("*.md"))
  )
  assert len(shown) == len(set(shown))
  assert set(shown) == set(LIBRARY), "give each module an automodule in a page of docs/api"


# ---- the site ---------------------------------------------------------------------------------


@pytest.mark.slow  # a minute; CI's job `docs` builds the site on each push
def test_the_site_builds_without_a_warning(tmp_path):
  for name in ("sphinx", "myst_parser", "furo"):
    pytest.importorskip(name, reason="the extra `docs` is not installed")
  command = [sys.executable, "-P", "-m", "sphinx", "-W", "-n", "--keep-going", "-q"]
  result = subprocess.run([*command, DOCS, tmp_path], capture_output=True, text=True, cwd=tmp_path)
  assert result.returncode == 0, result.stderr
  page = (tmp_path / "numbers.html").read_text()
  assert "When not to trust it" in page and "{{" not in page
