"""nanotron: `iteration: 10 / 100 | consumed_tokens: 1.2K | lm_loss: 3.21 | lr: 0.0003 | grad_norm: 0.5`."""

from __future__ import annotations

from lossmith.runs._lines import Line, LineFormat

READER = LineFormat(
    "nanotron",
    "nanotron",
    (
        Line(
            rb"\biteration: <step> / <max_steps> \| (?P<body>[^\n]{0,2000})",
            b"iteration: ",
            rb"([A-Za-z][\w./-]{0,60}): (<>)",
        ),
    ),
    form={"unit": "iteration"},
)
