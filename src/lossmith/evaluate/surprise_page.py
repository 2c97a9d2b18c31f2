"""The surprise of a text as one HTML page: coloured text with hover, sums, passages, pictures; no script."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from html import escape
from typing import Any

import numpy as np

from lossmith.evaluate.surprisal import Surprisal
from lossmith.evaluate.surprise_groups import (
    Means,
    Passage,
    Piece,
    by_entropy,
    by_frequency,
    by_position,
    extremes,
    guesses,
    passages,
    side_by_side,
)
from lossmith.pictures import Line, Panel
from lossmith.pictures.page import PAGE, STYLE, figure, text
from lossmith.pictures.text import clean, fixed, number, visible

SHOWN = 20_000  # units of text on the page: about 4 MB of HTML
_FEW = 10  # tokens of a class below which a picture leaves it out: noise
_LEVELS = (0.5, 1, 2, 4, 6, 9, 13)  # bits from which on the next colour is used
_STYLE = """
.text { background: var(--sheet); border: 1px solid var(--rule); border-radius: 12px; padding: 12px 14px;
  margin: 0 0 1rem;
  font: .9rem/1.9 ui-monospace, "SF Mono", Menlo, Consolas, "Noto Sans Mono", "Noto Sans CJK SC", monospace;
  overflow-wrap: anywhere; white-space: pre-wrap }
.text div { position: relative; padding-left: 4.2em; min-height: 1.9em }
.text div::before { content: attr(data-n); position: absolute; left: 0; width: 3.6em; text-align: right;
  color: var(--soft); font-size: .75em; line-height: 2.5; user-select: none }
.text p { margin: 0; color: var(--soft); font-size: .75em; border-top: 1px solid var(--rule); user-select: none }
.text i { font-style: normal; border-radius: 3px; background: rgb(230 110 20 / var(--a, 0)) }
.text i.gain { background: rgb(47 107 219 / var(--a, 0)) } .text u { text-decoration: none; color: var(--soft) }
.text i:hover { outline: 2px solid var(--mark) }
.text i:hover::after { content: attr(data-t); position: fixed; left: 0; right: 0; bottom: 0; padding: 10px 20px;
  background: var(--ink); color: var(--paper); font-size: 14px; line-height: 1.5; white-space: pre-wrap; z-index: 9 }
.a1 { --a: .08 } .a2 { --a: .16 } .a3 { --a: .26 } .a4 { --a: .38 } .a5 { --a: .52 } .a6 { --a: .68 } .a7 { --a: .86 }
.scale i { font-style: normal; padding: .1em .5em; background: rgb(230 110 20 / var(--a, 0)) }
.scale i.gain { background: rgb(47 107 219 / var(--a, 0)) } .passages { margin-bottom: 1.2rem }
.passages td:first-child { overflow-wrap: anywhere }
"""


def page(documents: Sequence[tuple[str, Surprisal, Surprisal | None]]) -> str:
    """Return the page of (name, surprisal, surprisal of the model it is compared with or None) of each document."""
    first = documents[0][1]
    method = (
        "pseudo-likelihood: each token when it alone is hidden; the sum is no code length"
        if first.method == "masked"
        else f"each token given those before it; windows of {first.context} tokens, {first.stride} apart"
    )
    other = documents[0][2]
    against = f", against {text(other.model)}" if other else ""
    body = [
        f'<header><p class="kind">lossmith surprise</p><h1 dir="auto">{text(first.model)}{against}</h1>',
        f'<p class="overview">{text(method)}</p></header>',
    ]
    for name, ours, theirs in documents:
        body += [f'<section><h2 dir="auto">{text(name)}</h2>', _cards(ours, theirs), *_extremes(ours)]
        body += [*_pictures(ours), *_text(ours, theirs), "</section>"]
    return PAGE.format(lang="en", title=f"surprise of {text(first.model)}", style=STYLE + _STYLE, body="\n".join(body))


def level(bits: float) -> int:
    """Return the colour, 0 to 7, of so many bits.

    >>> level(0.2), level(3.0), level(40.0)
    (0, 3, 7)
    """
    return sum(bits >= edge for edge in _LEVELS)


def _cards(ours: Surprisal, theirs: Surprisal | None) -> str:
    size = len(ours.text.encode())
    items = [
        (
            fixed(ours.bits_per_byte),
            "bits per byte",
            f"{number(size)} bytes, {number(ours.predicted)} tokens predicted",
        ),
        (fixed(ours.loss), "nats per token", f"perplexity {number(math.exp(min(ours.loss, 700)))}"),
        (number(round(ours.total_nats / math.log(2) / 8)), "bytes", "the sum of all surprisals"),
    ]
    if theirs:
        gap = theirs.total_nats - ours.total_nats
        said = "fewer" if gap >= 0 else "more"
        items[2] = (
            number(round(abs(gap) / math.log(2) / 8)),
            f"bytes {said} than {clean(theirs.model)}",
            f"which pays {fixed(theirs.bits_per_byte)} bits per byte",
        )
    cells = "".join(f"<li><strong>{a}</strong> <b>{text(b)}</b><span>{text(c)}</span></li>" for a, b, c in items)
    return f'<ul class="cards">{cells}</ul>'


def _extremes(found: Surprisal) -> Iterator[str]:
    least, most = extremes(found)
    for title, chosen in (("Most surprising", most), ("Most expected", least)):
        if chosen:
            rows = "".join(_passage(passage) for passage in chosen)
            head = '<tr><th>passage</th><th class="n">bits</th><th class="n">bits per byte</th></tr>'
            yield f'<h3>{title}</h3><table class="passages"><thead>{head}</thead><tbody>{rows}</tbody></table>'


def _passage(passage: Passage) -> str:
    said = text(passage.text.strip().replace("\n", " ⏎ "))
    cells = f'<td class="n">{passage.bits:,.1f}</td><td class="n">{passage.bits_per_byte:.2f}</td>'
    return f'<tr><td dir="auto" lang="">{said}</td>{cells}</tr>'


def _pictures(found: Surprisal) -> Iterator[str]:
    drawn = [
        _picture("Surprisal by context", "nats per token, over tokens of context seen", by_position(found), log=True),
        _picture(
            "Surprisal by frequency", "nats per token, over how often the token comes", by_frequency(found), log=True
        ),
        _picture("Surprisal against entropy", "nats, over the entropy of the prediction", by_entropy(found), log=False),
    ]
    shown = [part for part in drawn if part]
    if shown:
        said = "On the last one a model that knows what it does not know lies on the line surprisal = entropy."
        yield f'<div class="pair">{"".join(shown)}</div><p><small>{said}</small></p>'


def _picture(title: str, unit: str, means: Means, *, log: bool) -> str:
    often = means.n >= _FEW
    if often.sum() < 2:
        return ""
    x, y = means.x[often], means.y[often]
    lines = [Line("eval", "measured", x, y)]
    if not log:
        ends = np.array([x.min(), x.max()])
        lines.insert(0, Line("raw", "surprisal = entropy", ends, ends))
    panel = Panel("surprise", title, unit, tuple(lines), log_x=log and bool(x.min() > 0), from_zero=True)
    return figure(panel, (376, 230), (376, 230)).replace(") over steps", ")")


def _text(ours: Surprisal, theirs: Surprisal | None) -> Iterator[str]:
    if theirs:
        yield "<h3>Text <small>blue: cheaper than the other model; orange: dearer</small></h3>"
        parts = _compared(side_by_side(ours, theirs)[:SHOWN])
        total = len(ours.units)
    else:
        yield f"<h3>Text <small>left: bits of each line; colour: bits of each token</small> {_scale()}</h3>"
        parts, total = _units(ours), len(ours.units)
    yield f'<div class="text" dir="auto" lang="">{"".join(parts)}</div>'
    if total > SHOWN:
        yield f"<p>The page shows the first {SHOWN:,} of {total:,} pieces of text; the figures above count all.</p>"


def _scale() -> str:
    edges = ("0", *(f"{edge:g}" for edge in _LEVELS))
    return '<span class="scale">' + "".join(f'<i class="a{i}">{edge}</i>' for i, edge in enumerate(edges)) + "</span>"


def _units(found: Surprisal) -> Iterator[str]:
    lines = iter(passages(found, "line"))
    blocks = {p.start: p for p in passages(found, "paragraph")}
    bits = found.units.sums(found.bits)
    stop = 0
    for i in range(min(SHOWN, len(found.units))):
        start = int(found.units.bounds[i])
        if start >= stop:
            yield "</div>" if stop else ""
            skipped = list(_until(lines, start))
            line = skipped[-1]
            block = next((blocks.pop(p.start) for p in skipped if p.start in blocks), None)
            stop = line.stop
            if block and len(block.text) > len(line.text):
                yield f"<p>paragraph: {block.bits:,.0f} bits, {block.bits_per_byte:.2f} per byte</p>"
            yield f'<div data-n="{line.bits:,.0f}">'
        shown = found.unit_text(i)
        yield f'<i class="a{level(float(bits[i]))}" data-t="{escape(clean(_hover(found, i)))}">{_readable(shown)}</i>'
    yield "</div>" if stop else ""


def _until(lines: Iterator[Passage], start: int) -> Iterator[Passage]:
    """The lines up to that in which `start` lies; a unit may have eaten the beginning of one."""
    for line in lines:
        yield line
        if line.stop > start:
            return


def _hover(found: Surprisal, i: int) -> str:
    first, last = int(found.units.first[i]), int(found.units.first[i + 1])
    said = []
    for token in range(first, last):
        nats = float(found.nats[token])
        name = visible(found.tokenizer.token_text(int(found.ids[token])))
        if math.isnan(nats):
            said.append(f"{name}: nothing stands before it")
            continue
        line = f"{name}: {nats / math.log(2):.2f} bits, p = {math.exp(-nats):.3g}, rank {found.rank[token] + 1}"
        tops = ", ".join(f"{visible(str(g['text']))} {g['probability']:.1%}" for g in guesses(found, token))
        said.append(
            f"{line}; entropy {found.entropy[token] / math.log(2):.2f} bits" + (f"\nguesses: {tops}" if tops else "")
        )
    return "\n".join(said)


def _readable(shown: str) -> str:
    return text(shown.replace("\r\n", "\n").replace("\n", "⏎")).replace("⏎", "<u>⏎</u>")


def _compared(pieces: Sequence[Piece]) -> Iterator[str]:
    line: list[str] = []
    gap = 0.0
    for piece in pieces:
        bits = (piece.ours - piece.theirs) / math.log(2)
        gap += bits
        kind = f"a{level(abs(bits))}" + (" gain" if bits < 0 else "")
        said = f"{piece.ours / math.log(2):.2f} bits, the other model {piece.theirs / math.log(2):.2f}: {bits:+.2f}"
        line.append(f'<i class="{kind}" data-t="{escape(said)}">{_readable(piece.text)}</i>')
        if "\n" in piece.text:
            yield f'<div data-n="{_signed(gap)}">{"".join(line)}</div>'
            line, gap = [], 0.0
    if line:
        yield f'<div data-n="{_signed(gap)}">{"".join(line)}</div>'


def _signed(bits: float) -> str:
    return f"{bits:+,.0f}" if abs(bits) >= 0.5 else "0"


def document(name: str, found: Surprisal) -> dict[str, Any]:
    """Return what `--json` says of a document: totals, lines, paragraphs, passages, means, tokens."""
    from lossmith.evaluate.surprise_groups import token_rows

    least, most = extremes(found)
    kinds = (("context", by_position(found)), ("frequency", by_frequency(found)), ("entropy", by_entropy(found)))
    return {
        "file": name,
        **found.summary(),
        "lines": [p.to_json() for p in passages(found, "line")],
        "paragraphs": [p.to_json() for p in passages(found, "paragraph")],
        "most_surprising": [p.to_json() for p in most],
        "most_expected": [p.to_json() for p in least],
        "means": {key: {"x": m.x.tolist(), "nats": m.y.tolist(), "tokens": m.n.tolist()} for key, m in kinds},
        "units": list(token_rows(found)),
    }
