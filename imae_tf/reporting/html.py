"""What the pages of runs, searches and comparisons share: figures, tables, numbers, style."""

import base64
import dataclasses
import html
import io
import re

import PIL.Image


def document(title, header, sections, style=""):
  """A self-contained page: inline style, no script, no network.

  Args:
    title: text.
    header: HTML under the title.
    sections: list of (name, anchor, HTML); those without content are left out.
    style: CSS beyond STYLE.
  """
  sections = [section for section in sections if section[-1]]
  links = "".join(f'<a href="#{key}">{name}</a>' for name, key, _ in sections)
  body = "".join(
      f'<section id="{key}"><h2>{name}</h2>{content}</section>' for name, key, content in sections
  )
  return (
      '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
      '<meta name="viewport" content="width=device-width, initial-scale=1">'
      '<meta name="color-scheme" content="light dark">'
      f"<title>{escape(title)}</title><style>{STYLE}{style}</style></head>"
      f"<body><main><header><h1>{escape(title)}</h1>{header}</header>"
      f'<nav aria-label="Sections">{links}</nav>{body}</main></body></html>\n'
  )


@dataclasses.dataclass(frozen=True)
class Picture:
  """A figure as it stands in a page."""

  png: bytes
  width: int  # CSS pixels
  height: int
  alt: str
  caption: str
  narrow: bytes | None = None  # another layout, for phones


def picture(figure, alt, caption, narrow=None):
  """A `Picture` of a matplotlib figure; `narrow` is another one, for phones."""
  width, height = figure.get_size_inches() * 96
  return Picture(
      png(figure), round(width), round(height), alt, caption, narrow and png(narrow)
  )


def stored_picture(data, alt, caption):
  """A `Picture` of the bytes of a PNG file that `png` made."""
  image = PIL.Image.open(io.BytesIO(data))
  width, height = (round(side * 96 / image.info["dpi"][0]) for side in image.size)
  return Picture(data, width, height, alt, caption)


def png(figure):
  """A matplotlib figure as the bytes of a PNG file."""
  buffer = io.BytesIO()
  # Without the version of matplotlib: the same run gives the same bytes.
  figure.savefig(buffer, format="png", dpi=figure.dpi, metadata={"Software": None})
  return buffer.getvalue()


def figures(pictures, *names):
  """HTML of some of {name: Picture}, side by side where the page is wide enough."""
  return f'<div class="figures n{len(names)}">' + "".join(
      _figure(pictures[name]) for name in names
  ) + "</div>"


def _figure(picture):
  narrow = ""
  if picture.narrow:
    narrow = f'<source media="(max-width: 640px)" srcset="{_data_uri(picture.narrow)}">'
  return (
      f'<figure><picture>{narrow}<img src="{_data_uri(picture.png)}" width="{picture.width}"'
      f' height="{picture.height}" alt="{escape(picture.alt)}"></picture>'
      f"<figcaption>{escape(picture.caption)}</figcaption></figure>"
  )


def _data_uri(png):
  return "data:image/png;base64," + base64.b64encode(png).decode("ascii")


def table(caption, head, rows, style=""):
  """HTML of a table whose cells are HTML; the first cell of a row names it."""
  # The roles keep it a table for screen readers where phones lay its rows out as blocks.
  cells = "".join(f'<th role="columnheader" scope="col">{name}</th>' for name in head)
  body = "".join(
      f'<tr role="row"><th role="rowheader" scope="row">{first}</th>'
      + "".join(f'<td role="cell">{cell}</td>' for cell in rest) + "</tr>"
      for first, *rest in rows
  )
  return (
      f'<div class="scroll"><table role="table" class="{style}"><caption>{caption}</caption>'
      f'<thead role="rowgroup"><tr role="row">{cells}</tr></thead>'
      f'<tbody role="rowgroup">{body}</tbody></table></div>'
  )


def number(value, decimals=3):
  """A number as text, with a true minus sign and no negative zero; None is a dash."""
  if value is None:
    return "–"
  if isinstance(value, int):
    return f"{value:,}"
  text = f"{value:,.{decimals if abs(value) < 10 else 1}f}"
  return text.replace("-", "−") if text.strip("-0.") else text.lstrip("-")


def count(n, one, many=None):
  """'1 image', '2,000 images'."""
  return f"{n:,} {one if n == 1 else many or one + 's'}"


def subscripts(text):
  """Escaped text with z_k and K_1 as subscripts."""
  return re.sub(r"_([k12])", r"<sub>\1</sub>", escape(text))


def escape(text):
  """Any value as text for HTML."""
  return html.escape(str(text))


STYLE = """
:root { --ink: #1d2733; --muted: #5d6875; --line: #dfe4ea; --paper: #f6f7f9; --card: #fff;
  --accent: #2b6cb0; --track: #e3e8ee; --caution: #8a5a12; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6eaef; --muted: #9ba7b4; --line: #2c3541; --paper: #12171d; --card: #1a2129;
    --accent: #6ea8dd; --track: #2c3541; --caution: #dcb073; }
  figure img { filter: brightness(.9); } }
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; scroll-behavior: smooth; }
body { margin: 0; background: var(--paper); color: var(--ink);
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", sans-serif; }
main { max-width: 1120px; margin: 0 auto; padding: 48px 24px 64px; }
h1 { font-size: 2.1rem; line-height: 1.15; letter-spacing: -.02em; margin: 0 0 12px; }
h2 { font-size: 1.35rem; letter-spacing: -.01em; margin: 0 0 8px; }
h3 { font-size: 1.05rem; margin: 28px 0 8px; }
p { margin: 0 0 16px; max-width: 46em; }
section > p { color: var(--muted); }
.lead { font-size: 1.1rem; color: var(--muted); }
section { padding-top: 44px; }
nav { display: flex; flex-wrap: wrap; gap: 4px 20px; margin-top: 24px; font-size: .9rem; }
a { color: var(--accent); text-decoration: none; }
a:hover, a:focus { text-decoration: underline; }
.tiles { display: grid; gap: 12px; margin-top: 28px;
  grid-template-columns: repeat(auto-fit, minmax(165px, 1fr)); }
.tile, figure, .scroll { background: var(--card); border: 1px solid var(--line);
  border-radius: 12px; }
.tile { padding: 14px 16px; }
.tile .name { font-size: .82rem; color: var(--muted); }
.tile .value { font-size: 1.75rem; font-weight: 650; line-height: 1.25; letter-spacing: -.02em;
  font-variant-numeric: tabular-nums; }
.tile .text { font-size: .82rem; line-height: 1.4; color: var(--muted); }
.bar { height: 4px; border-radius: 2px; background: var(--track); margin: 4px 0 8px; }
.bar div { height: 4px; border-radius: 2px; background: var(--accent); }
.figures { display: grid; gap: 16px; align-items: start; margin-bottom: 16px; }
.n2 { grid-template-columns: repeat(2, minmax(0, 1fr)); }
.n3 { grid-template-columns: repeat(3, minmax(0, 1fr)); }
figure { margin: 0; padding: 12px; }
figure img { display: block; max-width: 100%; height: auto; margin: 0 auto;
  background: #fff; border-radius: 6px; padding: 4px; }
figcaption { font-size: .86rem; line-height: 1.45; color: var(--muted); padding: 10px 4px 0;
  max-width: 60em; }
.note { border-left: 3px solid var(--accent); padding-left: 12px; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-size: .9rem; line-height: 1.45; }
caption { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%); }
th, td { text-align: left; vertical-align: top; padding: 10px 16px;
  border-bottom: 1px solid var(--line); }
tbody tr:last-child > * { border-bottom: 0; }
thead th { font-size: .8rem; color: var(--muted); font-weight: 600; }
tbody th { font-weight: 600; }
td { font-variant-numeric: tabular-nums; }
.settings td { overflow-wrap: anywhere; }
td p { margin: 0; }
.caution { color: var(--caution); margin-top: 4px; }
.key { display: block; font-size: .75rem; font-weight: 400; color: var(--muted); }
.key code { font-size: 1em; }
.unit { font-size: .8rem; color: var(--muted); margin-left: 4px; }
.pair { display: block; white-space: nowrap; }
.numeric th, .numeric td { text-align: right; padding: 6px 12px; }
.numeric th:first-child { text-align: left; }
.settings th, .settings td { padding: 6px 16px; }
.settings th { font-weight: 400; color: var(--muted); }
sub { line-height: 0; }
@media (max-width: 860px) { .n2, .n3 { grid-template-columns: minmax(0, 1fr); } }
@media (max-width: 640px) {
  main { padding: 28px 14px 48px; }
  h1 { font-size: 1.7rem; }
  .tiles { grid-template-columns: repeat(2, minmax(0, 1fr)); gap: 8px; }
  .tile { padding: 12px; } .tile .value { font-size: 1.45rem; }
  figure { padding: 8px; }
  th, td, .numeric th, .numeric td { padding-left: 10px; padding-right: 10px; }
  .definitions, .definitions tbody { display: block; }
  .definitions thead { position: absolute; clip-path: inset(50%); }
  .definitions tr { display: grid; grid-template-columns: 1fr auto; padding: 12px;
    border-bottom: 1px solid var(--line); }
  .definitions tr:last-child { border-bottom: 0; }
  .definitions th, .definitions td { border: 0; padding: 0; }
  .definitions td:last-child { grid-column: 1 / -1; padding-top: 6px; }
  .definitions .pair { text-align: right; }
}
@media print { body { background: #fff; } nav { display: none; } figure { break-inside: avoid; } }
"""
