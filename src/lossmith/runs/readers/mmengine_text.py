"""MMEngine's and older MMCV's text: `Epoch(train) [1][50/7330]  lr: 1e-3 ... loss: 0.5`, `Iter(train) [50/1000]`."""

from __future__ import annotations

from lossmith.runs._lines import Line, LineFormat

_PAIRS = rb"([A-Za-z][\w./@-]{0,60}): +(<>)(?![\w:.]*:)"

READER = LineFormat(
    "mmengine_text",
    "mmengine",
    (
        Line(
            rb"\bEpoch(?:\(train\))? +\[ *<epoch>\]\[ *<iter>/<steps_per_epoch>\]"
            rb"(?P<body>[^\n]{0,20}lr: [^\n]{0,2000})",
            b"Epoch",
            _PAIRS,
        ),
        Line(rb"\bIter(?:\(train\))? +\[ *<iter>/<max_steps>\](?P<body>[^\n]{0,20}lr: [^\n]{0,2000})", b"Iter", _PAIRS),
        Line(
            rb"\b(?:Epoch|Iter)\(val\) +(?:\[ *<epoch>\])?\[ *\d+/\d+\](?P<body>[^\n]{0,2000})",
            b"(val)",
            _PAIRS,
            False,
            "val_",
        ),
    ),
)
