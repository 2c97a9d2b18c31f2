"""torchtitan: `step: 10  loss: 7.03  grad_norm: 1.57  memory: ... tps: 1,000` and `validate step: 20  loss: 7.1`."""

from __future__ import annotations

from lossmith.runs._lines import Line, LineFormat

READER = LineFormat(
    "torchtitan",
    "torchtitan",
    (
        Line(
            rb"(?<!validate )\bstep: *<step> +loss: *<loss>(?: +grad_norm: *<grad_norm>)?"
            rb"(?: +memory: *<memory_gib>GiB)?(?:\([^)\n]{0,20}\))?"
            rb"(?: +tps: *<tps>)?(?: +tflops: *<tflops>)?(?: +mfu: *<mfu>%)?",
            b"step:",
        ),
        Line(rb"\bvalidate step: *<step> +loss: *<eval_loss>", b"validate step:"),
    ),
    rank=12,
)
