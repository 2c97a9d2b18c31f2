"""OLMo and OLMo-core: `[step=10/1000,epoch=0]`, then indented `train/CrossEntropyLoss=3.2`, a line each."""

from __future__ import annotations

from lossmith.runs._lines import Line, LineFormat

READER = LineFormat(
    "olmo",
    "OLMo",
    (
        Line(rb"\[step=<step>/<max_steps>(?:,epoch=<epoch>)?[^\]\n]{0,80}\]", b"[step="),
        Line(rb"^[ \t]{2,}(?P<body>[A-Za-z][^\n=]{1,100}=[^\n]{1,40})$", b"=", rb"^([^=]+)=(<>)$", joins=True),
    ),
)
