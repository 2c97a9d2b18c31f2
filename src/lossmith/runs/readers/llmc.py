"""llm.c: main.log (`s:0 tel:10.97`, `s:0 trl:10.96 lr:0.0007 norm:2.1`) and its terminal output."""

from __future__ import annotations

from lossmith.runs._lines import Line, LineFormat

READER = LineFormat(
    "llm.c",
    "llm.c",
    (
        Line(rb"^s:<step> tel:<eval_loss>", b"tel:"),
        Line(rb"^s:<step> eval:<eval_hellaswag>", b"eval:"),
        Line(rb"^s:<step> trl:<loss>(?: lr:<learning_rate>)?(?: norm:<grad_norm>)?", b"trl:"),
        Line(
            rb"^step +<step>/<max_steps> *\| (?:train )?loss <loss>(?: *\([^)\n]{0,20}\))?"
            rb"(?: *\| norm <grad_norm>(?: *\([^)\n]{0,20}\))?)?(?: *\| lr <learning_rate>)?",
            b"| ",
        ),
        Line(rb"^val loss <eval_loss>", b"val loss "),
    ),
)
