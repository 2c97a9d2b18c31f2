"""Caffe: `Iteration 100 (9.5 iter/s, ...), loss = 1746.73` and `Test net output #1: loss = 2.3 (* 1 = 2.3 loss)`."""

from __future__ import annotations

from lossmith.runs._lines import Line, LineFormat

READER = LineFormat(
    "caffe",
    "Caffe",
    (
        Line(rb"\bIteration <step>(?: \([^)\n]{0,60}\))?, loss = <loss>", b", loss = "),
        Line(rb"\bIteration <step>, lr = <learning_rate>", b", lr = "),
        Line(rb"\bIteration <step>, Testing net", b"Testing net"),
        Line(
            rb"Test net output #\d+: (?P<body>\S{1,80} = [^\n(]{1,40})",
            b"Test net output",
            rb"^(\S+) = (<>)",
            True,
            "test_",
        ),
        Line(
            rb"Train net output #\d+: (?P<body>\S{1,80} = [^\n(]{1,40})",
            b"Train net output",
            rb"^(\S+) = (<>)",
            True,
            "net_",
        ),
    ),
    form={"unit": "iteration"},
)
