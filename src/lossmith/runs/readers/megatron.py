"""Megatron-LM, Megatron-DeepSpeed and GPT-NeoX: ` iteration 31219/ 115311 | ... | lm loss: 5.098124E+00 | ...`."""

from __future__ import annotations

from lossmith.runs._lines import Line, LineFormat

_PAIRS = rb"([A-Za-z][\w \-/]{0,60}?(?: \(m?s\))?): *(<>)"

# Skipped iterations print no loss; their rows keep learning rate and loss scale.
READER = LineFormat(
    "megatron",
    "Megatron-LM",
    (
        Line(rb"\biteration +<step>/ *<max_steps> *\|(?P<body>[^\n]{0,2000})", b"iteration", _PAIRS),
        Line(
            rb"validation (?:loss|results) at iteration +<step>(?: on \w+ set)? *\|(?: *[\w-]+:)? *"
            rb"lm[ _]loss value: *<eval_loss>(?: *\| *lm[ _]loss[ _](?:PPL|ppl)(?: value)?: *<eval_perplexity>)?",
            b"validation ",
        ),
        Line(rb"\bsteps: <step> loss: <loss>(?: iter time \(s\): <iter_time>)?", b"steps: "),
        Line(rb"\bstep=<step>, skipped=<skipped>, lr=\[<learning_rate>", b"skipped="),
    ),
    form={"unit": "iteration", "names": {"lm loss": "loss", "lm_loss": "loss", "consumed tokens": "tokens"}},
)
