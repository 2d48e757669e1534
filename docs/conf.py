"""The site: `sphinx-build -W -n --keep-going docs BUILD`, with the `docs` extra installed."""

import inspect
import pathlib
import re
import sys

from docutils import nodes
from docutils.utils.math import latex2mathml

sys.path.insert(0, str(pathlib.Path(__file__).parent))

from generated import error_tables
from generated import method_list
from generated import number_list
from generated import program_help
from generated import setting_table

import imae_tf

project = "imae_tf"
author = "The authors of imae_tf"
version = release = imae_tf.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["_build"]
html_theme = "furo"
html_title = f"imae_tf {release}"
html_show_sourcelink = html_show_copyright = False
highlight_language = "none"  # of what docstrings indent
html_math_renderer = "mathml"

myst_enable_extensions = ["deflist", "dollarmath", "substitution"]
myst_heading_anchors = 3
myst_substitutions = {
    "errors": error_tables(), "methods": method_list(), "numbers": number_list(),
    "programs": program_help(), "settings": setting_table(),
}

autodoc_default_options = {"members": True, "member-order": "bysource"}
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
python_maximum_signature_line_length = 88
autodoc_inherit_docstrings = False  # Keras's are of another markup
napoleon_use_ivar = True
napoleon_custom_sections = ["Returns"]  # text, in which a colon is no type
default_role = "code"  # of single backticks in docstrings
# Of other libraries, whose own sites are not asked: the build needs no network.
nitpick_ignore_regex = [
    (r"py:.*", r"(tf|tensorflow\w*|tfp|tfd|keras|keras_tuner|np|numpy|npt|PIL|matplotlib)\..*"),
    (r"py:.*", r"(sklearn|starlette|grpc|httpx|google)\..*"),
    (r"py:.*", r"(threading|concurrent|collections|os|pathlib|typing)\..*"),
    (r"py:class", r"optional|Path|Callable|Iterable|Sequence|Future"),
]

_DISPLAYED = 4  # spaces by which docstrings indent formulas and tables
_CODE = re.compile(r"(`[^`]*`)")
_RETURNED = re.compile(r"  [\w, ]+: ")
_NAMED = re.compile(r"  [a-z_]+: ")


def as_meant(app, what, name, obj, options, lines):
  """Docstrings are written to be read in the source: makes of them what reST means by it.

  What they indent after an empty line is a literal block, and what a function returns under
  names is a list. |x| and x_ outside of backticks are no markup, and `x`s may
  have a plural.
  """
  result, indent, literal, listed = [], 0, None, False
  for line in lines:
    depth = len(line) - len(line.lstrip())
    if literal is not None and line.strip() and depth < literal:
      literal = None
    displayed = line.strip() and depth >= indent + _DISPLAYED and result and not result[-1].strip()
    if literal is None and displayed:
      literal = depth
      result += [" " * indent + "::", ""]
    if literal is not None:
      result.append(line)
      continue
    if line.strip():
      indent = depth
    if not depth:
      listed = listed and not line
    elif result[-1] == "Returns:" and not _NAMED.match(line):
      listed = line.endswith(":")
      line += "\n" if listed else ""
    elif (listed or result[-1] == "Returns:") and _RETURNED.match(line):
      listed = True
      line = "  * " + line[2:]
    result += "".join(map(_plain, _CODE.split(line))).split("\n")
  lines[:] = result


def _plain(text):
  if text.startswith("`"):
    return text + "\\ "  # an end of markup that a letter may follow
  return re.sub(r"\||(?<=\w)_(?!\w)", r"\\\g<0>", text)


def skip_fields(app, what, name, obj, skip, options):
  """Leaves out what a NamedTuple says of its fields: the class's docstring says it better."""
  return True if (getattr(obj, "__doc__", "") or "").startswith("Alias for field") else skip


def keras_signature(app, what, name, obj, options, signature, returned):
  """Of a Keras class the arguments of __init__: its __new__ takes anything."""
  if what == "class" and signature == "(*args, **kwargs)":
    parameters = list(inspect.signature(obj.__init__).parameters.values())[1:]
    plain = [parameter.replace(annotation=inspect.Parameter.empty) for parameter in parameters]
    return str(inspect.Signature(plain)), returned
  return None


def visit_math(self, node):
  """Formulas as MathML, which browsers draw by themselves: no script, no network."""
  self.body.append(latex2mathml.tex2mathml(node.astext()))
  raise nodes.SkipNode


def visit_displaymath(self, node):
  """The same on lines of their own, which scroll where they do not fit."""
  formula = latex2mathml.tex2mathml(node.astext(), as_block=True)
  self.body.append(f'<div style="overflow-x: auto">{formula}</div>')
  raise nodes.SkipNode


def setup(app):
  app.connect("autodoc-process-docstring", as_meant, priority=400)  # before napoleon
  app.connect("autodoc-process-signature", keras_signature)
  app.connect("autodoc-skip-member", skip_fields)
  app.add_html_math_renderer("mathml", (visit_math, None), (visit_displaymath, None))
