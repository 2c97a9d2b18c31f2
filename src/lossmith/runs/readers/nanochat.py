"""nanochat: `step 00010/05000 (0.2%) | loss: 9.1 | lrm: 1.0 | dt: 98ms` and `Step 00250 | Validation bpb: 0.95`."""

from __future__ import annotations

from lossmith.runs._lines import Line, LineFormat

_PAIRS = rb"([A-Za-z][\w /]{0,40}): +(<>)"

# The train loss is smoothed (an unbiased moving average); lrm multiplies the learning rates of all groups.
READER = LineFormat(
    "nanochat",
    "nanochat",
    (
        Line(
            rb"^[^\n|]{0,40}\b[Ss]tep <step>/<max_steps>(?: \(<>%\))? \| (?P<body>[^\n]{0,40}[Ll]oss: [^\n]{0,400})",
            b"oss: ",
            _PAIRS,
        ),
        Line(rb"\bStep <step> \| Validation bpb: <eval_bpb>", b"Validation bpb"),
        Line(rb"\bStep <step> \| Validation loss: <eval_loss>", b"Validation loss"),
        Line(rb"\bStep <step> \| CORE metric: <core_metric>", b"CORE metric"),
    ),
    rank=11,
)
