"""LitGPT: `Epoch 1 | iter 5 step 1 | loss train: 3.1, val: n/a | iter time: 97 ms (step)`."""

from __future__ import annotations

from lossmith.runs._lines import Line, LineFormat

# On these lines the last validation loss is printed again until there is another one.
READER = LineFormat(
    "litgpt",
    "LitGPT",
    (
        Line(
            rb"(?:\bEpoch <epoch> *\| *)?\biter <iter> +step <step> *\| *"
            rb"loss train: *<loss>, +val: *(?:<val_loss_running>|n/a)",
            b"loss train:",
        ),
        Line(rb"\biter <>: val loss <eval_loss>", b": val loss ", joins=True),
    ),
    sticky=("val_loss_running",),
)
