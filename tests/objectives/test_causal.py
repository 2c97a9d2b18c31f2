"""Causal language modelling against the loss written out by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from lossmith.objectives import CausalObjective
from lossmith.total import Total

RNG = np.random.default_rng(0)


@pytest.fixture(scope="module")
def model() -> LlamaForCausalLM:
    torch.manual_seed(0)
    shape = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 48}
    return LlamaForCausalLM(LlamaConfig(vocab_size=20, **shape, max_position_embeddings=32)).eval()


def by_hand(model: LlamaForCausalLM, tokens: np.ndarray) -> float:
    """Σ −ln p(token | tokens before it), from probabilities written out one by one."""
    with torch.no_grad():
        p = model(input_ids=torch.tensor(tokens[None, :-1])).logits.double().softmax(-1)[0]
    return -sum(float(p[i, token].log()) for i, token in enumerate(tokens[1:]))


def test_the_sum_is_that_of_the_probabilities(model: LlamaForCausalLM) -> None:
    tokens = RNG.integers(0, 20, (3, 9))
    objective = CausalObjective()
    batch = objective.batch([{"tokens": row} for row in tokens], RNG)
    total = objective.terms(model, batch)["causal"]
    assert float(total.value.detach()) == pytest.approx(sum(by_hand(model, row) for row in tokens), rel=1e-5)
    assert total.weight == objective.counts(batch)["causal"] == 3 * 8


def test_ignored_labels_are_not_counted(model: LlamaForCausalLM) -> None:
    tokens = RNG.integers(0, 20, 9)
    objective = CausalObjective()
    batch = objective.batch([{"tokens": tokens}], RNG)
    batch["labels"] = torch.cat([batch["labels"][:, :4], torch.full((1, 4), -100)], 1)
    total = objective.terms(model, batch)["causal"]
    assert float(total.value.detach()) == pytest.approx(by_hand(model, tokens[:5]), rel=1e-5)
    assert total.weight == objective.counts(batch)["causal"] == 4


def test_masked_documents_cost_what_they_cost_alone(model: LlamaForCausalLM) -> None:
    """Two documents in one window with the mask: each predicted as if the other were not there."""
    first, second = RNG.integers(0, 20, 5), RNG.integers(0, 20, 6)
    example = {
        "tokens": np.concatenate([first, second]),
        "documents": np.array([0] * 5 + [1] * 6, dtype=np.int32),
    }
    objective = CausalObjective()
    value = objective.terms(model, objective.batch([example], RNG))["causal"].value
    alone = by_hand(model, np.append(first, second[0])) + by_hand(model, second)  # the next start ends the first one
    assert float(value.detach()) == pytest.approx(alone, rel=1e-5)
    plain = objective.terms(model, objective.batch([{"tokens": example["tokens"]}], RNG))["causal"].value
    assert float(plain.detach()) != pytest.approx(alone, rel=1e-4)


def test_totals_of_rows_add_up(model: LlamaForCausalLM) -> None:
    rows = [{"tokens": RNG.integers(0, 20, 9)} for _ in range(4)]
    objective = CausalObjective()
    parts = [objective.terms(model, objective.batch([row], RNG))["causal"] for row in rows]
    whole = objective.terms(model, objective.batch(rows, RNG))["causal"]
    summed = sum(parts[1:], parts[0])
    assert isinstance(summed, Total)
    torch.testing.assert_close(summed.mean(), whole.mean())
