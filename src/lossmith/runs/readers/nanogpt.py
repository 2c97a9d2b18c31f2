"""nanoGPT: `iter 3000: loss 4.2490, time 97ms, mfu 20%` and `step 3000: train loss 4.0390, val loss 4.0427`."""

from __future__ import annotations

from lossmith.runs._lines import Line, LineFormat

# The train loss of the second kind is an estimate over eval_iters batches; that of the first is one batch's.
READER = LineFormat(
    "nanogpt",
    "nanoGPT",
    (
        Line(rb"\biter <step>: loss <loss>(?:, time <time_ms>ms)?(?:, mfu <mfu>%)?", b"iter "),
        Line(rb"\bstep <step>: train loss <train_loss_estimate>, val loss <eval_loss>", b"train loss "),
    ),
    form={"unit": "iteration"},
)
