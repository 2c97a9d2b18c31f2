"""The page that reports stand on: its style sheet, its text, its figures."""

from __future__ import annotations

from html import escape

from lossmith.pictures import _svg
from lossmith.pictures.panel import Panel
from lossmith.pictures.text import clean

PAGE = """<!doctype html>
<html lang="{lang}">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{title} · lossmith</title>
<style>{style}</style>
</head>
<body>
<main>
{body}
</main>
</body>
</html>
"""

STYLE = """
:root { --paper: #fbfbfa; --sheet: #fff; --ink: #1c2430; --soft: #5d6877; --rule: #e4e7ec; --faint: #f1f3f6;
  --train: #2f6bdb; --raw: #a9c1f2; --eval: #d2600a; --bad: #c62828; --good: #1b7f4b; --ours: #2f6bdb; --bar: #c9d0da;
  --mark: #2f6bdb }
@media (prefers-color-scheme: dark) {
  :root { --paper: #12161c; --sheet: #1a2028; --ink: #e8ecf1; --soft: #9aa6b5; --rule: #2c3540; --faint: #222a34;
    --train: #74a3ff; --raw: #35507f; --eval: #ff9d52; --bad: #ff7b72; --good: #5fd08f; --ours: #74a3ff; --bar: #47525f;
    --mark: #74a3ff }
}
* { box-sizing: border-box }
body { margin: 0; background: var(--paper); color: var(--ink); -webkit-text-size-adjust: 100%;
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", "Noto Sans", sans-serif }
main { max-width: 860px; margin: 0 auto; padding: 40px 20px 64px }
h1 { font-size: 2.1rem; line-height: 1.15; letter-spacing: -.02em; margin: 0 0 .5rem; overflow-wrap: anywhere }
h2 { font-size: 1.25rem; letter-spacing: -.01em; margin: 3rem 0 .75rem }
h3 { font-size: .95rem; margin: 1.4rem 0 .4rem }
h3 small, figcaption, small, .kind, .overview { color: var(--soft); font-weight: 400 }
small { font-size: .8rem; line-height: 1.4 }
p { margin: .5rem 0 }
.kind { font-size: .8rem; letter-spacing: .08em; text-transform: uppercase; margin: 0 0 .3rem }
.overview span { white-space: nowrap; display: inline-block; max-width: 100%; overflow: hidden; text-overflow: ellipsis;
  vertical-align: bottom }
.lead { font-size: 1.1rem }
.status { display: inline-block; padding: 0 .65em; margin-right: .35em; border-radius: 1em; font-size: .85rem;
  border: 1px solid currentColor }
.status.finished { color: var(--good) } .status.failed { color: var(--bad) }
.status.stopped, .status.running { color: var(--eval) }
.error { border-left: 4px solid var(--bad) }
.cards { display: grid; grid-template-columns: repeat(auto-fit, minmax(200px, 1fr)); gap: 12px; list-style: none;
  margin: 0 0 1rem; padding: 0 }
.cards li { background: var(--sheet); border: 1px solid var(--rule); border-radius: 12px; padding: 16px 18px }
.cards strong { display: block; font-size: 2.3rem; line-height: 1.15; letter-spacing: -.03em;
  font-variant-numeric: tabular-nums }
.cards b { display: block } .cards span { font-size: .85rem; color: var(--soft); line-height: 1.4; display: block }
.cards li:first-child strong { color: var(--ours) }
table { border-collapse: collapse; width: 100% }
th, td { text-align: left; vertical-align: top; padding: .45rem .5rem; border-bottom: 1px solid var(--rule) }
thead th { color: var(--soft); font-weight: 400; font-size: .85rem; vertical-align: bottom }
.n { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; width: 6.5em }
thead .n { white-space: normal }
.compare td:first-child, .compare th:first-child { padding-left: 0 } .compare b { font-weight: 500 }
.compare small { display: block }
.bar { display: block; margin: .25rem 0 .3rem }
.bar i { display: block; height: 9px; border-radius: 5px; background: var(--bar) }
.ours .bar i { background: var(--ours) } .compare .ours b, .compare .ours .n { font-weight: 700; color: var(--ours) }
figure { margin: 0 0 1rem; padding: 4px 16px 14px; background: var(--sheet); border: 1px solid var(--rule);
  border-radius: 12px }
figure h3 { margin: .7rem 0 .3rem } figcaption { font-size: .85rem; margin-top: .3rem }
.pair { display: grid; grid-template-columns: repeat(auto-fit, minmax(290px, 1fr)); gap: 12px }
.pair figure { margin: 0 }
svg { display: block; width: 100%; height: auto; overflow: visible }
svg text { font-size: 12px; fill: var(--soft); font-variant-numeric: tabular-nums }
svg .said { paint-order: stroke; stroke: var(--sheet); stroke-width: 4px; stroke-linejoin: round }
path { fill: none } .grid { stroke: var(--rule) } .reference { stroke: var(--soft); stroke-dasharray: 5 4 }
.broken { stroke: var(--bad); stroke-width: 1.5; stroke-dasharray: 2 3 }
.mark { opacity: .13 } .mark.error { fill: var(--bad) } .mark.warning { fill: var(--eval) }
.mark.info { fill: var(--soft) }
svg text.error { fill: var(--bad) } svg text.warning { fill: var(--eval) }
.finding { background: var(--sheet); border: 1px solid var(--rule); border-left: 4px solid var(--soft);
  border-radius: 10px; padding: 12px 16px; margin: 0 0 12px } .finding.error { border-left-color: var(--bad) }
.finding.warning { border-left-color: var(--eval) } .finding h3 { margin: 0 0 .2rem } .finding small { display: block }
.line { stroke-width: 2.2; stroke-linejoin: round; stroke-linecap: round; stroke: var(--train) }
.line.raw { stroke: var(--raw); stroke-width: 1.1 } .line.eval { stroke: var(--eval) }
.line.run0 { stroke: var(--train) } .key.run0::before { background: var(--train) }
.line.run1 { stroke: #d9670b } .key.run1::before { background: #d9670b }
.line.run2 { stroke: #1b7f4b } .key.run2::before { background: #1b7f4b }
.line.run3 { stroke: #9c3fb0 } .key.run3::before { background: #9c3fb0 }
.line.run4 { stroke: var(--bad) } .key.run4::before { background: var(--bad) }
.line.run5 { stroke: #00838f } .key.run5::before { background: #00838f }
.line.run6 { stroke: #8d6e00 } .key.run6::before { background: #8d6e00 }
.line.run7 { stroke: var(--soft) } .key.run7::before { background: var(--soft) }
circle { fill: var(--train); stroke: var(--sheet); stroke-width: 1.5 } circle.eval { fill: var(--eval) }
.legend { display: flex; flex-wrap: wrap; gap: .1rem 1.1rem; font-size: .85rem; color: var(--soft) }
.key::before { content: ""; display: inline-block; width: 1.2em; height: 3px; border-radius: 2px; margin-right: .45em;
  vertical-align: middle; background: var(--train) }
.key.raw::before { background: var(--raw) } .key.eval::before { background: var(--eval) }
.narrow { display: none }
pre { margin: .3rem 0 0; padding: 12px 14px; background: var(--faint); border-radius: 8px; overflow-wrap: anywhere;
  white-space: pre-wrap; font: .85rem/1.55 ui-monospace, "SF Mono", Menlo, Consolas, "Noto Sans Mono", monospace;
  user-select: text }
pre mark { background: none; color: var(--mark); font-weight: 700 }
.samples { list-style: none; margin: 0; padding: 0 0 0 22px; border-left: 2px solid var(--rule) }
.samples li { position: relative; margin: 0 0 1.2rem } .samples b { font-size: .9rem }
.samples li::before { content: ""; position: absolute; left: -28px; top: .5em; width: 10px; height: 10px;
  border-radius: 50%; background: var(--raw) }
.samples li:last-child::before { background: var(--train) }
.details { columns: 330px; column-gap: 28px } .details div { break-inside: avoid; padding-bottom: .8rem }
.details h3 { margin-top: 0 }
.scores { font-size: .9rem; width: auto; min-width: 50% } .scores .n { width: auto; white-space: nowrap }
.facts { font-size: .9rem } .facts th { font-weight: 400; color: var(--soft); width: 45% }
.facts td { overflow-wrap: anywhere }
.facts th { overflow-wrap: anywhere } .facts .ours td:nth-child(2) { font-weight: 600; color: var(--ours) }
details { margin-top: .6rem } summary { cursor: pointer; color: var(--soft); padding: .3rem 0 }
@media (max-width: 560px) {
  main { padding: 24px 14px 48px } h1 { font-size: 1.7rem } .wide { display: none } .narrow { display: block }
  figure { padding: 2px 10px 10px } .n { width: 4.6em } .cards { grid-template-columns: 1fr; gap: 8px }
  .cards li { padding: 10px 14px } .cards strong { font-size: 1.9rem }
}
@media print { body { background: #fff } details > * { display: block } }
"""


def text(value: str) -> str:
    """Return text that HTML shows as it is."""
    return escape(clean(value))


def figure(panel: Panel, wide: tuple[int, int], narrow: tuple[int, int]) -> str:
    """Return a panel with its legend; drawn once more for narrow screens, where it could not be read shrunken."""
    keys = "".join(f'<span class="key {line.role}">{text(line.label)}</span>' for line in panel.lines)
    legend = f'<div class="legend">{keys}</div>' if len(panel.lines) > 1 else ""
    drawn = f'<div class="wide">{_svg.draw(panel, *wide)}</div><div class="narrow">{_svg.draw(panel, *narrow)}</div>'
    drawn = _svg.draw(panel, *wide) if wide == narrow else drawn
    title = f"<h3>{text(panel.title)} <small>{text(panel.unit)}</small></h3>"
    note = f"<figcaption>{text(panel.note())}</figcaption>" if panel.name == "loss" else ""
    return f"<figure>{title}{legend}{drawn}{note}</figure>"
