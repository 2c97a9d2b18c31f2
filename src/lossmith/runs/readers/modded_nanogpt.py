"""modded-nanogpt and parameter-golf: `step:1/5100 train_loss:15.9932 train_time:23767ms`, below all source code."""

from __future__ import annotations

from lossmith.runs._lines import Line, LineFormat

READER = LineFormat(
    "modded_nanogpt",
    "modded-nanogpt",
    (Line(rb"(?<!\w)step:<step>/<max_steps> (?P<body>[^\n]{0,400})", b"step:", rb"(\w+):(<>)"),),
)
