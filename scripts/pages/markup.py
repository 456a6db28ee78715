"""A page of HTML in one piece: its style, and the few elements that pages are put together from."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

STYLE = """
:root { --ink: #1d2430; --soft: #667080; --line: #e4e1d9; --paper: #fcfbf8; --card: #ffffff; --accent: #22577a;
  --good: #2b7a4b; --bad: #b23a2a; }
* { box-sizing: border-box; }
html { color-scheme: light; -webkit-text-size-adjust: 100%; }
body { margin: 0 auto; max-width: 54rem; padding: 1.5rem 1rem 4rem; color: var(--ink); background: var(--paper);
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", sans-serif; }
h1 { font-size: 1.6rem; line-height: 1.2; margin: 0 0 .25rem; overflow-wrap: anywhere; }
h2 { font-size: 1.15rem; margin: 2.5rem 0 .5rem; }
p { margin: .5rem 0; max-width: 44rem; }
.soft, figcaption { color: var(--soft); font-size: .875rem; }
.lead { font-size: 1.0625rem; }
.card, figure { background: var(--card); border: 1px solid var(--line); border-radius: 10px; padding: .75rem;
  margin: .75rem 0; overflow-x: auto; -webkit-overflow-scrolling: touch; }
figure svg { display: block; height: auto; max-width: 100%; margin: 0 auto; }
figcaption { margin-top: .5rem; max-width: 44rem; }
table { border-collapse: collapse; width: 100%; font-size: .875rem; font-variant-numeric: tabular-nums; }
th { text-align: left; font-weight: 600; color: var(--soft); }
th, td { padding: .35rem .6rem; border-bottom: 1px solid var(--line); vertical-align: top; }
tbody tr:last-child td { border-bottom: 0; }
th.n, td.n { text-align: right; white-space: nowrap; }
tr.best td { font-weight: 600; color: var(--accent); }
tr.baseline td { color: var(--soft); }
details > summary { cursor: pointer; color: var(--accent); padding: .35rem 0; }
.clips { display: flex; gap: .6rem; overflow-x: auto; padding-bottom: .25rem; -webkit-overflow-scrolling: touch; }
.wrap { flex-wrap: wrap; overflow-x: visible; }
.clip { flex: 0 0 7rem; width: 7rem; margin: 0; padding: 0; border: 0; background: none; overflow: visible;
  font-size: .8125rem; line-height: 1.3; overflow-wrap: anywhere; }
.clip img, .clip .absent { display: block; width: 7rem; border-radius: 6px; border: 3px solid var(--line);
  background: #eee; }
.clip .absent { height: 5rem; }
.clip.good img, .clip.good .absent { border-color: var(--good); }
.clip.bad img, .clip.bad .absent { border-color: var(--bad); }
.clip.query img, .clip.query .absent { border-color: var(--ink); }
.clip b { display: block; margin-top: .25rem; }
.clip span { color: var(--soft); }
dl { display: grid; grid-template-columns: minmax(7rem, max-content) 1fr; gap: .2rem 1rem; font-size: .875rem;
  margin: .25rem 0; }
dt { color: var(--soft); }
dd { margin: 0; overflow-wrap: anywhere; }
@media (max-width: 30rem) { body { padding-top: 1rem; } dl { grid-template-columns: 1fr; } dd { margin-bottom: .4rem; }
  th, td { padding: .3rem .4rem; } }
"""


def page(title: str, parts: Iterable[str]) -> str:
    """The whole document."""
    body = "\n".join(parts)
    return (
        f'<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">\n<title>{escape(title)}</title>\n'
        f"<style>{STYLE}</style>\n</head>\n<body>\n{body}\n</body>\n</html>\n"
    )


def heading(text: str) -> str:
    return f"<h2>{escape(text)}</h2>"


def paragraph(text: str, kind: str = "") -> str:
    """Plain text. kind: a class of the style."""
    return f"<p{_class(kind)}>{escape(text)}</p>"


def table(columns: Sequence[str], rows: Sequence[Sequence[object]], kinds: Sequence[str] | None = None) -> str:
    """Columns whose name starts with ">" are numbers, set flush right. kinds: a class for each row."""
    right = [' class="n"' if name.startswith(">") else "" for name in columns]
    head = "".join(f"<th{mark}>{escape(name.lstrip('>'))}</th>" for name, mark in zip(columns, right, strict=True))
    lines = []
    for row, kind in zip(rows, kinds or [""] * len(rows), strict=True):
        cells = "".join(f"<td{mark}>{escape(str(cell))}</td>" for cell, mark in zip(row, right, strict=True))
        lines.append(f"<tr{_class(kind)}>{cells}</tr>")
    return f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(lines)}</tbody></table>"


def card(inner: str) -> str:
    return f'<div class="card">{inner}</div>'


def details(summary: str, inner: str) -> str:
    return f"<details><summary>{escape(summary)}</summary>{inner}</details>"


def figure(svg: str, caption: str) -> str:
    return f"<figure>{svg}<figcaption>{escape(caption)}</figcaption></figure>"


def facts(pairs: Iterable[tuple[str, object]]) -> str:
    """A list of names and what they are."""
    return f"<dl>{''.join(f'<dt>{escape(name)}</dt><dd>{escape(str(value))}</dd>' for name, value in pairs)}</dl>"


def clip(source: str | None, title: str, note: str = "", kind: str = "") -> str:
    """A clip that plays by itself. source: a data URI, or None where the clip is not there."""
    shown = f'<img src="{source}" alt="{escape(title, quote=True)}">' if source else '<div class="absent"></div>'
    return f'<figure class="clip {kind}">{shown}<b>{escape(title)}</b><span>{escape(note)}</span></figure>'


def strip(clips: Iterable[str], *, wrapped: bool = False) -> str:
    """Clips side by side: one line that scrolls, or as many lines as it takes."""
    return f'<div class="clips{" wrap" if wrapped else ""}">{"".join(clips)}</div>'


def _class(kind: str) -> str:
    return f' class="{kind}"' if kind else ""
