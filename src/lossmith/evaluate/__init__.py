"""evaluate: what a model is worth: perplexity, bits per byte, baselines, samples, next tokens, the report.

Importing this room imports neither torch nor matplotlib; the functions that need them do.
"""

from __future__ import annotations

from lossmith.evaluate.baselines import Baseline, baselines
from lossmith.evaluate.next_tokens import Candidate, NextToken, NextTokens, next_tokens
from lossmith.evaluate.perplexity import Evaluation, evaluate
from lossmith.evaluate.report import write_report
from lossmith.evaluate.sampling import sample, sample_stream

__all__ = [
    "Baseline",
    "Candidate",
    "Evaluation",
    "NextToken",
    "NextTokens",
    "baselines",
    "evaluate",
    "next_tokens",
    "sample",
    "sample_stream",
    "write_report",
]
