"""A page as its reader has it: balanced tags, the text, the rows of tables, the charts."""

import html.parser
import re

_VOID = {"br", "hr", "img", "input", "link", "meta", "source", "wbr"}


class Page(html.parser.HTMLParser):
  """Parses a page; that its tags are balanced is asserted.

  Attributes:
    elements: (tag, attributes) of each, in order.
    text: of all, as a browser would show it, without what separates blocks.
    rows: the texts of the cells of each row of a table.
  """

  def __init__(self, text):
    super().__init__()
    self.elements, self.text, self.rows, self._charts, self._open = [], "", [], [], []
    self.feed(text)
    self.close()
    assert not self._open

  def all(self, *tags, **attributes):
    """The attributes of each element with one of the tags that has the attributes."""
    return [
        attrs for tag, attrs in self.elements
        if tag in tags and all(attrs.get(k) == v for k, v in attributes.items())
    ]

  def charts(self):
    """The `Chart` of each svg element."""
    return [Chart(attrs, content) for attrs, content in self._charts]

  def handle_starttag(self, tag, attrs):
    attrs = dict(attrs)
    self.elements.append((tag, attrs))
    if tag == "tr":
      self.rows.append([])
    elif tag in ("th", "td"):
      self.rows[-1].append("")
    elif tag == "svg":
      self._charts.append((attrs, []))
    if tag not in _VOID:
      self._open.append((tag, attrs))
    if any(name == "svg" for name, _ in self._open):
      self._charts[-1][1].append((self._classes(), tag, attrs, []))

  def handle_endtag(self, tag):
    assert self._open.pop()[0] == tag

  def handle_data(self, data):
    tags = [tag for tag, _ in self._open]
    if "style" in tags:
      return
    if "svg" in tags:
      self._charts[-1][1][-1][-1].append(data)
    shown = re.sub(r"\s+", " ", data) if "pre" not in tags else data
    self.text += shown
    if {"th", "td"} & set(tags):
      self.rows[-1][-1] += shown

  def _classes(self):
    return [attrs["class"] for _, attrs in self._open if "class" in attrs]


class Chart:
  """An svg element that matplotlib made.

  Attributes:
    attributes: of the element.
    marks: (class, x, y) of each marker, in the order of drawing.
    bars: (low, high) of each bar, whose y grows downwards.
    tips: what each mark says.
    along: the texts of the ticks along x.
    up: the texts of the ticks up y.
  """

  def __init__(self, attributes, content):
    self.attributes, self.marks, self.bars, self.tips = attributes, [], [], []
    self.along, self.up = [], []
    for classes, tag, attrs, texts in content:
      text = "".join(texts)
      if tag == "use":
        self.marks.append((classes[-1], float(attrs["x"]), float(attrs["y"])))
      elif tag == "title":
        self.tips.append(text)
      elif tag == "path" and classes[-1] == "spread":
        low, high = re.fullmatch(r"M \S+ (\S+)\s+L \S+ (\S+)\s*", attrs["d"]).groups()
        self.bars.append((float(low), float(high)))
      elif tag == "text" and "xtick" in classes:
        self.along.append(text)
      elif tag == "text" and "ytick" in classes:
        self.up.append(text)
