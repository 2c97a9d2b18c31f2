"""fairseq and metaseq: `| epoch 022 | loss 3.882 | ... | num_updates 5586`; losses in bits, turned into nats."""

from __future__ import annotations

from lossmith.runs._lines import Line, LineFormat, Row

_BARS = rb"\b(\w+) (<>)(?= *(?:\||$))"
_JSON = rb"\"(\w+)\": \"?(<>)\"?(?=[,}])"
_BITS = frozenset(
    f"{part}{name}" for part in ("", "epoch_", "valid_") for name in ("loss", "nll_loss", "best_loss", "inner_loss")
)


class _Fairseq(LineFormat):
    """Read the lines of fairseq, whose JSON form has names of its own."""

    def rows_of(self, block: bytes) -> list[Row]:
        """Return the rows, the names of the JSON form (`train_loss`, `valid_num_updates`) made those of the other."""
        return [{_plain(name): number for name, number in row.items()} for row in super().rows_of(block)]


def _plain(name: str) -> str:
    if name.endswith("num_updates"):
        return "num_updates"
    return name.replace("train_", "epoch_", 1) if name.startswith("train_") else name


# Three kinds of lines: within an epoch, the mean of an epoch, the validation.
READER = _Fairseq(
    "fairseq",
    "fairseq",
    (
        Line(
            rb"\| epoch +<epoch> +\| (?P<body>(?:train_?)?loss [^\n]{0,1000}num_updates [^\n]{0,600})",
            b"num_updates ",
            _BARS,
            prefix="epoch_",
        ),
        Line(
            rb"\| epoch +<epoch> +\| valid on '[^'\n]{0,60}' subset \| (?P<body>[^\n]{0,1000}num_updates [^\n]{0,300})",
            b"num_updates ",
            _BARS,
            prefix="valid_",
        ),
        Line(
            rb"\bepoch +<epoch>: +<> / <steps_per_epoch> (?P<body>[^\n]{0,20}loss=[^\n]{0,1000})",
            b"num_updates=",
            rb"\b(\w+)=(<>)",
        ),
        Line(rb"\{(?P<body>\"epoch\": [^{}\n]{0,2000}num_updates\": [^{}\n]{0,1000}\})", b'num_updates"', _JSON),
    ),
    rank=6,
    form={"base2": _BITS, "notes": ("fairseq logs losses in bits: multiplied by ln 2, now in nats",)},
)
