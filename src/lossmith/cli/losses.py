"""lossmith losses: every loss with formula and source; one loss in full, with what would run here and a picture."""

from __future__ import annotations

import doctest
import inspect
import json
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from tyro.conf import FlagCreatePairsOff, Positional, arg

from lossmith.errors import InputError, did_you_mean

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

    from lossmith.cli.loss_picture import Picture
    from lossmith.losses import LossSpec

TITLES = ("Formula", "Shapes", "Use", "Avoid", "Memory", "Errors", "Source")
File = Annotated[Path | None, arg(metavar="FILE", help_behavior_hint="")]


@dataclass
class Args:
    """Show every loss, or one of them in full."""

    name: Positional[Annotated[str, arg(metavar="[NAME]", help_behavior_hint="(default: list them all)")]] = ""
    """The loss to show: formula, shapes, when to use it, what would run here, loss and gradient as a picture."""
    png: File = None
    """Write the picture of NAME to this file."""
    svg: File = None
    """Write the picture of NAME to this file, as SVG."""
    json: FlagCreatePairsOff[bool] = False
    """Print one JSON array (without NAME) or object instead of text."""


def run(args: Args) -> None:
    """Print the list, or one loss, and write its picture where that is asked for."""
    if not args.name and (args.png or args.svg):
        raise InputError("--png and --svg need the NAME of a loss: lossmith losses focal --png focal.png")
    from rich.console import Console

    from lossmith.losses import LOSSES

    console = Console(highlight=False)
    if not args.name:
        rows = [summary(spec) for spec in LOSSES.values()]
        return print(json.dumps(rows, ensure_ascii=False)) if args.json else show_list(rows, console)
    from lossmith.cli.loss_picture import trace

    spec = find(args.name, LOSSES)
    picture = trace(spec)
    written = _write(args, picture)
    found = details(spec, picture)
    if args.json:
        return print(json.dumps(found, ensure_ascii=False))
    show(found, picture, console)
    return console.print(*(f"\npicture: {path}" for path in written), sep="", markup=False, soft_wrap=True, end="")


def find(name: str, table: Mapping[str, LossSpec]) -> LossSpec:
    """Return the row of that name, or raise InputError with the nearest name and with losses that mention the word."""
    spec = table.get(name.replace("-", "_"))
    if spec is not None:
        return spec
    word = re.compile(rf"\b{re.escape(name)}\b", re.I)
    mention = [key for key, row in table.items() if word.search(inspect.getdoc(row.fn) or "")]
    hint = f" It is mentioned by {', '.join(mention)}." if mention else ""
    known = did_you_mean(name, table) or ("" if mention else " `lossmith losses` lists them.")
    raise InputError(f"there is no loss {name!r}.{known}{hint}")


def summary(spec: LossSpec) -> dict[str, Any]:
    """Return a row of the list."""
    text = {title: _plain(spec.section(title)) for title in ("Formula", "Source")}
    return {
        "name": spec.name,
        "family": spec.family,
        "summary": _plain(spec.summary),
        "formula": text["Formula"],
        "source": text["Source"],
    }


def details(spec: LossSpec, picture: Picture | None) -> dict[str, Any]:
    """Return everything that is known about one loss."""
    takes = inspect.signature(spec.fn).parameters.values()
    return {
        **summary(spec),
        **{title.lower(): _plain(spec.section(title)) for title in TITLES},
        "notes": _plain(" ".join(_notes(spec))),
        "additive": spec.additive,
        "inputs": [p.name for p in takes if p.kind is p.POSITIONAL_OR_KEYWORD and not inspect.isclass(spec.fn)],
        "options": [_option(p) for p in takes if p.kind is p.KEYWORD_ONLY or inspect.isclass(spec.fn)],
        "example": "".join(_example(spec)),
        "here": here(spec),
        "picture": picture and _numbers(picture),
    }


def _option(parameter: inspect.Parameter) -> dict[str, Any]:
    required = parameter.default is parameter.empty
    default = None if required else parameter.default
    if not isinstance(default, (str, int, float, type(None))) or (isinstance(default, float) and math.isinf(default)):
        default = repr(default)
    return {"name": parameter.name, "type": str(parameter.annotation), "required": required, "default": default}


def _notes(spec: LossSpec) -> Iterator[str]:
    """Yield the paragraphs of the docstring between its sections and its example."""
    for paragraph in (inspect.getdoc(spec.fn) or "").split("\n\n")[2:]:
        if ">>>" not in paragraph:
            yield paragraph.replace("\n", " ")


def _example(spec: LossSpec) -> Iterator[str]:
    for step in doctest.DocTestParser().get_examples(inspect.getdoc(spec.fn) or ""):
        first, *rest = step.source.splitlines()
        yield "\n".join([f">>> {first}", *(f"... {line}" for line in rest)]) + "\n" + step.want


def here(spec: LossSpec) -> dict[str, str | None]:
    """Say which implementation would run on this machine, why, and what becomes of bfloat16 products there.

    An option `impl` chooses between two; what has `max_memory` is made in blocks of rows; the rest is plain torch.
    """
    import torch

    takes = inspect.signature(spec.fn).parameters
    on_cuda = torch.cuda.is_available()
    device = torch.cuda.get_device_name() if on_cuda else "CPU"
    chosen, why, products = "torch", "plain tensor operations", None
    if "max_memory" in takes:
        like = torch.empty(0, dtype=torch.bfloat16, device="cuda" if on_cuda else "cpu")
        chosen, why = _chosen(like) if "impl" in takes else ("chunked", "blocks of rows on any device")
        products = _bfloat16(like) if "hidden" in takes else "widened to float32, where lengths are divided out"
    return {"device": device, "implementation": chosen, "why": why, "bfloat16": products}


def _chosen(like: Any) -> tuple[str, str]:
    from lossmith.losses.linear_cross_entropy import choose
    from lossmith.losses.linear_cross_entropy._triton import available

    if not like.is_cuda:
        return choose(like), "no CUDA device"
    return choose(like), available(like.device) or "a CUDA device of compute capability 8.0 or newer (float64: chunked)"


def _bfloat16(like: Any) -> str:
    from lossmith.losses.linear_cross_entropy._stream import product_dtype

    native = product_dtype(like) == like.dtype
    return "native products, float32 statistics" if native else "widened to float32, which this CPU multiplies faster"


def _numbers(picture: Picture) -> dict[str, Any]:
    def finite(values: list[float]) -> list[float | None]:
        return [value if math.isfinite(value) else None for value in values]  # JSON has no infinity

    return {
        "over": picture.axis.name,
        "unit": picture.unit or None,
        "gradient_of": picture.axis.slope,
        "x": picture.x,
        "loss": finite(picture.loss),
        "gradient": finite(picture.gradient),
    }


def _write(args: Args, picture: Picture | None) -> list[Path]:
    from lossmith.cli.loss_picture import write

    wanted = {kind: path for kind, path in (("png", args.png), ("svg", args.svg)) if path is not None}
    for kind, path in wanted.items():
        if picture is None:
            raise InputError(f"--{kind}: {args.name} has no picture, since it is no function of a single number")
        write(picture, path, kind)
    return list(wanted.values())


def _plain(text: str) -> str:
    return text.replace("``", "")


def show_list(rows: list[dict[str, Any]], console: Console) -> None:
    """Print a table by family; where that is no terminal, a line a loss, its columns separated by tabs."""
    if not console.is_terminal:
        for row in rows:
            print("\t".join(row[key] for key in ("family", "name", "formula", "source")))
        return
    from rich.table import Table
    from rich.text import Text

    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True)
    table.add_column(ratio=1, overflow="fold")  # a long address is not cut off
    family = ""
    for row in rows:
        if row["family"] != family:
            table.add_row(Text(f"{family and chr(10)}{row['family']}", style="bold magenta"))
            family = row["family"]
        formula = Text(first_sentence(row["formula"])).append(f"\n{first_source(row['source'])}", style="dim")
        table.add_row(Text(row["name"], style="bold"), formula)
    console.print(table)
    console.print("\nlossmith losses NAME: shapes, when to use it and when not, options, a picture", style="dim")


def first_sentence(text: str) -> str:
    """Return a text up to its first full stop that a capital letter follows.

    >>> first_sentence("0.5·x² nats. With log_probs it is that already.")
    '0.5·x² nats.'
    """
    return re.split(r"(?<=\.) (?=[A-Z])", text, maxsplit=1)[0]


def first_source(source: str) -> str:
    """Return the first page or paper of a source, with its name where that follows.

    >>> first_source("https://arxiv.org/abs/2103.00020 (CLIP, 2.5), https://arxiv.org/abs/2303.15343 (SigLIP)")
    'https://arxiv.org/abs/2103.00020 (CLIP, 2.5)'
    """
    found = re.search(r"https?://[^\s,;]+( \([^)]*\))?", source)
    return found.group() if found else source


def show(found: dict[str, Any], picture: Picture | None, console: Console) -> None:
    """Print one loss in full."""
    from rich.table import Table
    from rich.text import Text

    console.print(Text.assemble((found["name"], "bold magenta"), (f" · {found['family']}", "dim")))
    console.print(Text(found["summary"]), end="\n\n")
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(style="dim", no_wrap=True)
    table.add_column(ratio=1, overflow="fold")  # a long address is not cut off
    for title in (*TITLES, "Notes"):
        if found[title.lower()]:
            table.add_row(title, Text(found[title.lower()], style="cyan" if title == "Formula" else ""))
    table.add_row("Options", Text("\n").join(_options(found)))
    table.add_row("Here", _here(found["here"]))
    table.add_row("Example", Text(found["example"].rstrip()))
    console.print(table)
    if picture is not None:
        _plot(picture, console)


def _options(found: dict[str, Any]) -> Iterator[Text]:
    from rich.text import Text

    for option in found["options"]:
        default = "to be given" if option["required"] else f"= {option['default']!r}"
        yield Text.assemble((option["name"], "bold"), (f": {option['type']} ", "dim"), default)


def _here(found: dict[str, str | None]) -> Text:
    from rich.text import Text

    text = Text.assemble((f"{found['implementation']}", "bold"), f": {found['why']} ({found['device']})")
    return text.append(f"\nbfloat16: {found['bfloat16']}") if found["bfloat16"] else text


def _plot(picture: Picture, console: Console) -> None:
    from rich.text import Text

    from lossmith.cli.loss_picture import in_terminal

    styles = {"loss": "cyan", "gradient": "yellow", "": "dim"}
    console.print()
    for line in in_terminal(picture, console.width):
        console.print(Text.assemble(*((text, styles[role]) for role, text in line)), no_wrap=True, crop=False)
