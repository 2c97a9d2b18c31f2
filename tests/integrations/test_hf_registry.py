"""Every causal and masked model of transformers, tiny: those that passed when the rows were kept still do.

All of them run (some 40 seconds of two quiet cores), as benchmarks/hf_models.py runs them.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
sys.path.insert(0, str(BENCHMARKS))
import hf_docs  # noqa: E402
import hf_models  # noqa: E402

KEPT: list[dict[str, Any]] = [json.loads(line) for line in hf_docs.FILE.read_text(encoding="utf-8").splitlines()]
PASSED = [(row["task"], row["type"]) for row in KEPT if row["status"] == "pass"]
SAME_VERSION = KEPT[0]["transformers"] == transformers.__version__


def test_models_that_passed_still_pass() -> None:
    known = [pair for pair in PASSED if SAME_VERSION or pair in hf_models.registry()]
    rows = hf_models.run(known, seconds=600, jobs=1)  # the other core has other tests
    fine = {"pass"} if SAME_VERSION else {"pass", "does not run"}  # other versions have other configurations
    assert [row for row in rows if row["status"] not in fine] == []
    assert sum(row["status"] == "pass" for row in rows) >= 200


@pytest.mark.skipif(not SAME_VERSION, reason="rows of another transformers")
def test_every_registered_model_has_a_row() -> None:
    assert [(row["task"], row["type"]) for row in KEPT] == hf_models.registry()
    assert {row["status"] for row in KEPT} <= {"pass", "fallback", "does not run"}


@pytest.mark.parametrize("language", hf_docs.WORDS)
def test_the_documentation_says_what_the_rows_say(language: str) -> None:
    page = (BENCHMARKS.parent / "docs" / f"integrations{language}.md").read_text(encoding="utf-8")
    assert f"{hf_docs.START}\n{hf_docs.docs(KEPT, language)}\n{hf_docs.END}" in page


def test_a_wrong_gradient_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """Planted faults: 1 % too much of the loss; a gradient lost."""
    rule = hf_models.RULES["cross_entropy"]
    for fault in (lambda loss: loss * 1.01, lambda loss: loss.detach() + loss * 0.98 - loss.detach() * 0.98):
        monkeypatch.setitem(hf_models.RULES, "cross_entropy", lambda *a, _fault=fault, **k: _fault(rule(*a, **k)))
        assert [row["status"] for row in hf_models.run([("causal", "llama"), ("masked", "bert")])] == ["fail", "fail"]


def test_differences_are_measured() -> None:
    one = torch.ones(3)
    assert hf_models.difference(one * 1.5, one, torch.tensor(1.0)) == 0.5
    assert hf_models.difference(one / 0, one, torch.tensor(1.0)) == float("inf")
