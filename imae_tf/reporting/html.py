"""Tools that the pages of runs, searches and comparisons share: templates, pictures, numbers.

`templates/` has a file for each kind of page. `render` fills it in and escapes all text.
"""

import base64
import dataclasses
import io
import pathlib
import re
from typing import Any
from xml.etree import ElementTree

import jinja2
import PIL.Image
from markupsafe import Markup
from matplotlib.figure import Figure

from imae_tf.metrics import definitions
from imae_tf.reporting import plots

_MISSING = "–"
# Colours of drawings are replaced by variables of the page, so that they follow its dark theme.
_COLOURS = {
    plots.INK: "var(--ink)", plots.MUTED: "var(--muted)", plots.FAINT: "var(--line)",
    plots.BLUE: "var(--accent)", "#ffffff": "var(--card)",
}


def render(template: str, **values: Any) -> str:
  """A self-contained page: inline style, no script, no network.

  Args:
    template: name of a file in `templates/`.
    **values: the values that the template shows, "title" among them.
  """
  page = _TEMPLATES.get_template(template).render(values)
  return re.sub(r">\n\s*<", "><", page) + "\n"  # templates are laid out for those who read them


@dataclasses.dataclass(frozen=True)
class Picture:
  """A figure in a page, with its size, words and caption."""

  png: bytes
  width: int  # CSS pixels
  height: int
  alt: str
  caption: str
  narrow: bytes | None = None  # another layout, for phones


def picture(figure: Figure, alt: str, caption: str, narrow: Figure | None = None) -> Picture:
  """A `Picture` of a matplotlib figure; `narrow` is another figure, for phones."""
  width, height = figure.get_size_inches() * 96
  return Picture(
      png(figure), round(width), round(height), alt, caption, png(narrow) if narrow else None
  )


def stored_picture(data: bytes, alt: str, caption: str) -> Picture:
  """A `Picture` from the bytes of a PNG file that `png` made."""
  image = PIL.Image.open(io.BytesIO(data))
  width, height = (round(side * 96 / image.info["dpi"][0]) for side in image.size)
  return Picture(data, width, height, alt, caption)


@plots.own_style()
def png(figure: Figure) -> bytes:
  """A matplotlib figure as the bytes of a PNG file."""
  buffer = io.BytesIO()
  # The version of matplotlib is left out, so that the same run gives the same bytes.
  figure.savefig(buffer, format="png", dpi=figure.dpi, metadata={"Software": None})
  return buffer.getvalue()


def svg(figure: Figure, alt: str, style: str, titles: dict[str, str]) -> Markup:
  """A matplotlib figure as an svg element, in the colours of the page around it.

  Nothing is clipped. A part whose gid (`Artist.set_gid`) is "name_7" has the class "name".

  Args:
    figure: a figure in the colours of `plots`.
    alt: what it shows, in words.
    style: class of the element.
    titles: {gid: text that appears when one points at the part}.
  """
  buffer = io.StringIO()
  # The salt makes ids the same each time, and different in each figure of a page.
  settings = {"svg.fonttype": "none", "svg.hashsalt": alt, "font.sans-serif": ["DejaVu Sans"]}
  with plots.own_style(settings):
    figure.savefig(buffer, format="svg", transparent=True)
  root = ElementTree.fromstring(buffer.getvalue())
  size = {"viewBox": root.get("viewBox", "")}
  root.attrib = {"class": f"chart {style}", "role": "img", "aria-label": alt, **size}
  for parent in list(root.iter()):
    for child in list(parent):
      # The metadata are matplotlib's name and the date; the style would apply to the whole page.
      if child.tag.endswith(("}metadata", "}style", "}clipPath")):
        parent.remove(child)
  for element in root.iter():
    _make_part_of_a_page(element, titles)
  text = ElementTree.tostring(root, encoding="unicode")
  for colour, variable in _COLOURS.items():
    text = text.replace(colour, variable)
  return Markup(text)


def _make_part_of_a_page(element: ElementTree.Element, titles: dict[str, str]) -> None:
  """Removes namespaces, which HTML does not know, and ids, which other elements may have."""
  element.tag = element.tag.rpartition("}")[2]
  element.attrib = {name.rpartition("}")[2]: value for name, value in element.attrib.items()}
  element.attrib.pop("clip-path", None)
  if element.tag == "g" and "id" in element.attrib:
    name = element.attrib.pop("id")
    element.set("class", name.rpartition("_")[0] or name)
    if name in titles:
      title = ElementTree.Element("title")
      title.text = titles[name]
      element.insert(0, title)


# --- filters of the templates ---------------------------------------------------------------


def number(value: float | None, decimals: int = 3) -> str:
  """A number as text, with a true minus sign and no negative zero; None is a dash."""
  if value is None:
    return _MISSING
  if isinstance(value, int):
    return f"{value:,}"
  text = f"{value:,.{decimals if abs(value) < 10 else 1}f}"
  return text.replace("-", "−") if text.strip("-0.") else text.lstrip("-")


def count(n: int, one: str, many: str | None = None) -> str:
  """A number with its noun: '1 image', '2,000 images'."""
  return f"{n:,} {one if n == 1 else many or one + 's'}"


def subscripts(text: str) -> Markup:
  """Text with the k of z_k and the 1 of K_1 as subscripts."""
  plain_and_small = enumerate(re.split(r"_([k12])", text))
  return Markup("").join(
      Markup("<sub>{}</sub>").format(part) if i % 2 else part for i, part in plain_and_small
  )


def _data_uri(data: bytes) -> str:
  return "data:image/png;base64," + base64.b64encode(data).decode("ascii")


def _headings(body: Markup) -> list[tuple[Markup, Markup]]:
  """(anchor, name) of each section."""
  found = re.findall(r'<section id="(.*?)"><h2>(.*?)</h2>', body)
  return [(Markup(anchor), Markup(name)) for anchor, name in found]


_TEMPLATES = jinja2.Environment(
    loader=jinja2.FileSystemLoader(pathlib.Path(__file__).parent / "templates"),
    autoescape=True,
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
_TEMPLATES.filters |= {
    "number": number, "count": count, "subscripts": subscripts, "data_uri": _data_uri,
    "headings": _headings,
}
_TEMPLATES.globals["label"] = definitions.label
