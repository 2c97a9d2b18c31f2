"""Replaced tokens: what is sampled, what counts as replaced, where gradients go, and what is shared."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits
from transformers import (
    BertConfig,
    DebertaV2Config,
    ElectraConfig,
    ElectraForMaskedLM,
    ElectraForPreTraining,
    GPT2Config,
    ModernBertConfig,
    T5Config,
)

from lossmith.data import Tokenizer
from lossmith.errors import InputError
from lossmith.models import build_model
from lossmith.models.build import instantiate, preset_config
from lossmith.models.generator import generator_config, tables
from lossmith.models.presets import DISCRIMINATORS
from lossmith.models.rows import RowsOut
from lossmith.objectives import MaskedObjective, Masking, ReplacedTokenObjective
from lossmith.objectives.preview import describe
from lossmith.objectives.replaced_token import sampled
from lossmith.objectives.scoring import score
from lossmith.testing import ObjectiveError, check_objective

TOKENIZER = Tokenizer.byte().with_special(["pad", "cls", "sep", "mask"])
MASK, EOS = 260, 256
TEXT = "Who was replaced here? 床前明月光，疑是地上霜。 "


def objective(kind: type[ReplacedTokenObjective] = ReplacedTokenObjective, **options: Any) -> ReplacedTokenObjective:
    masking = Masking(261, MASK, TOKENIZER.special_ids, mask_share=0.85, random_share=0.0, rate=0.3)
    return kind(MaskedObjective(masking, 258, 259, seed=3), **options)


def examples(n: int = 4, size: int = 30) -> list[dict[str, Any]]:
    ids = TOKENIZER.encode(TEXT * 10).astype(np.int64)
    rows = [{"tokens": ids[i * size : (i + 1) * size].copy(), "index": np.int64(i)} for i in range(n)]
    rows[0]["tokens"][3] = EOS
    return rows


@pytest.fixture
def model() -> Any:
    config = ElectraConfig(
        vocab_size=261, embedding_size=16, hidden_size=32, num_hidden_layers=2, num_attention_heads=4,
        intermediate_size=64, max_position_embeddings=64, pad_token_id=257, initializer_range=0.3,
        hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0,
    )  # fmt: skip
    torch.manual_seed(0)

    return ElectraForPreTraining._from_config(config, attn_implementation="eager").eval()


def made(adopted: ReplacedTokenObjective, model: Any) -> tuple[dict[str, Tensor], Tensor, Tensor]:
    """Return a batch, its original text, and the input after sampling, as computed here and not by the objective."""
    batch = adopted.batch(examples(), np.random.default_rng(0))
    original = torch.where(batch["labels"] != -100, batch["labels"], batch["input_ids"])
    with torch.no_grad():
        probabilities = adopted.own(input_ids=batch["input_ids"]).logits.softmax(-1).double()
    probabilities[..., sorted(TOKENIZER.special_ids)] = 0
    corrupted = batch["input_ids"].clone()
    for row, place in (batch["labels"] != -100).nonzero().tolist():
        chances = (probabilities[row, place] / probabilities[row, place].sum()).cumsum(0)
        corrupted[row, place] = int((chances <= batch["uniform"][row, place]).sum())
    return batch, original, corrupted


def check_terms(adopted: ReplacedTokenObjective, model: Any) -> None:
    """Both terms are the models' own losses on the text before, and after sampling; right guesses are originals."""
    batch, original, corrupted = made(adopted, model)
    terms = adopted.terms(model, batch)
    torch.testing.assert_close(
        terms["generator"].mean(), adopted.own(input_ids=batch["input_ids"], labels=batch["labels"]).loss
    )
    real = torch.tensor([[i not in TOKENIZER.special_ids for i in row] for row in original.tolist()])
    logits = model(input_ids=corrupted).logits.reshape(corrupted.shape)
    replaced = (corrupted != original).float()
    torch.testing.assert_close(
        terms["discriminator"].mean(), binary_cross_entropy_with_logits(logits[real], replaced[real])
    )
    assert float(terms["discriminator"].weight) == 4 * 30 - 1  # without [CLS], [SEP] and the end of a document
    assert float(terms["generator"].weight) == len(batch["rows"])


def sure_of_one_place(adopted: ReplacedTokenObjective) -> None:
    """Let the generator prefer the commonest token, so that some guesses are right."""
    with torch.no_grad():
        adopted.own.get_output_embeddings().bias[ord("e")] = 8.0


def check_gradient(adopted: ReplacedTokenObjective, model: Any) -> None:
    """The discriminator's loss moves nothing of the generator but the tables that both have."""
    batch = adopted.batch(examples(), np.random.default_rng(0))
    adopted.terms(model, batch)["discriminator"].mean().backward()
    shared = {id(p) for p in model.parameters()}
    moved = [name for name, p in adopted.own.named_parameters() if id(p) not in shared and p.grad is not None]
    moved = [name for name in moved if adopted.own.get_parameter(name).grad.abs().max() > 0]
    assert not moved, f"the discriminator's loss reaches {moved}"


def test_both_terms_are_the_models_own_losses(model: Any) -> None:
    adopted = objective().adopt(model)
    sure_of_one_place(adopted)
    check_terms(adopted, model)
    _, original, corrupted = made(adopted, model)
    right = (corrupted == original) & (adopted.batch(examples(), np.random.default_rng(0))["labels"] != -100)
    assert right.any()  # else nothing was said about right guesses
    assert (corrupted != original).any()


def test_no_gradient_passes_through_the_sampling(model: Any) -> None:
    check_gradient(objective().adopt(model), model)


class EqualIsReplaced(ReplacedTokenObjective):
    def _judge(self, model: Any, batch: dict[str, Tensor], guess: Tensor) -> tuple[Tensor, Tensor]:
        logits, targets = super()._judge(model, batch, guess)
        return logits, torch.where(batch["labels"] != -100, 1, targets)


class SpecialCounts(ReplacedTokenObjective):
    def _judge(self, model: Any, batch: dict[str, Tensor], guess: Tensor) -> tuple[Tensor, Tensor]:
        logits, targets = super()._judge(model, batch, guess)
        return logits, targets.clamp(min=0)


class StraightThrough(ReplacedTokenObjective):
    def _judge(self, model: Any, batch: dict[str, Tensor], guess: Tensor) -> tuple[Tensor, Tensor]:
        logits, targets = super()._judge(model, batch, guess)
        told = self.own(input_ids=batch["input_ids"]).logits.softmax(-1).max(-1).values
        return logits + told - told.detach(), targets


class NeverRight(ReplacedTokenObjective):
    """Samples something else where the guess was right: the input tells that its token is not the original."""

    def _guess(self, model: Any, batch: dict[str, Tensor]) -> Any:
        out, guess = super()._guess(model, batch)
        targets = batch["labels"].flatten()[batch["rows"]]
        return out, torch.where(guess == targets, (guess + 1) % 256, guess)


class Tells(ReplacedTokenObjective):
    """Hides the odd tokens only: the batch is another one where the original is another."""

    def terms(self, model: Any, batch: dict[str, Tensor]) -> Any:
        odd = (batch["labels"] % 2 == 1) & (batch["labels"] != -100)
        return super().terms(model, batch | {"input_ids": torch.where(odd, MASK, batch["input_ids"])})


@pytest.mark.parametrize("kind", [EqualIsReplaced, SpecialCounts])
def test_wrong_targets_are_found(model: Any, kind: type[ReplacedTokenObjective]) -> None:
    adopted = objective(kind).adopt(model)
    sure_of_one_place(adopted)
    with pytest.raises(AssertionError):
        check_terms(adopted, model)


def test_a_gradient_through_the_sampling_is_found(model: Any) -> None:
    with pytest.raises(AssertionError, match="the discriminator's loss reaches"):
        check_gradient(objective(StraightThrough).adopt(model), model)


@pytest.mark.parametrize("kind", [NeverRight, Tells])
def test_an_original_that_leaks_is_found(model: Any, kind: type[ReplacedTokenObjective]) -> None:
    adopted = objective(kind).adopt(model)
    sure_of_one_place(adopted)
    with pytest.raises(ObjectiveError, match="leak"):
        check_objective(adopted, model, examples(), laws=["leak"])


@pytest.mark.parametrize("unit", ["token", "word", "span"])
def test_the_laws_hold(model: Any, unit: str) -> None:
    adopted = objective().adopt(model)
    masking = replace(adopted.masked.masking, unit=unit, pieces=TOKENIZER.pieces)
    adopted = replace(adopted, masked=replace(adopted.masked, masking=masking))
    rows = [example | {"documents": np.repeat([3, 4], 15).astype(np.int32)} for example in examples()]
    check_objective(adopted, model, rows)
    check_objective(adopted, model, examples())


def test_sampling_follows_the_softmax() -> None:
    logits = torch.tensor([0.0, 1.0, -1.0, 2.0, 0.5, 9.0])
    may = torch.tensor([True, True, False, True, True])  # the last is beyond the tokenizer's vocabulary
    n = 20_000
    uniform = (torch.arange(n, dtype=torch.float64) + 0.5) / n
    drawn = sampled(RowsOut(logits.expand(n, -1), None, None, logits), uniform, may)
    expected = logits[[0, 1, 3, 4]].softmax(0)
    counts = torch.bincount(drawn, minlength=6) / n
    torch.testing.assert_close(counts[[0, 1, 3, 4]], expected, atol=2 / n, rtol=0)
    assert counts[2] == counts[5] == 0
    edge = sampled(RowsOut(logits.expand(2, -1), None, None, logits), torch.tensor([0.0, 1 - 2**-53]).double(), may)
    assert edge.tolist() == [0, 4]
    assert sampled(RowsOut(logits.expand(0, -1), None, None, logits), uniform[:0], may).shape == (0,)


def test_what_is_sampled_depends_on_seed_and_index_alone() -> None:
    one = objective().batch(examples(), np.random.default_rng(0))
    two = objective().batch(examples()[::-1], np.random.default_rng(99))
    assert all(torch.equal(one[key], two[key].flip(0)) for key in ("input_ids", "uniform", "real"))
    later = objective().batch([e | {"index": e["index"] + 1000} for e in examples()], np.random.default_rng(0))
    assert not torch.equal(one["uniform"], later["uniform"])
    hidden = (one["labels"] != -100).double()
    assert abs(np.corrcoef(hidden.flatten(), one["uniform"].flatten())[0, 1]) < 0.2  # the mask tells no noise


def test_embeddings_are_one_tensor_and_learn_from_both(model: Any) -> None:
    adopted = objective().adopt(model)
    assert tables(adopted.own) == tables(model)
    assert len(tables(model)) == 3  # tokens, positions, types
    table = model.electra.embeddings.word_embeddings.weight
    assert adopted.own.get_output_embeddings().weight is table
    assert adopted.own.electra.embeddings_project.weight.shape == (8, 16)
    batch = adopted.batch(examples(), np.random.default_rng(0))
    gradients = {}
    for name in ("generator", "discriminator"):
        adopted.terms(model, batch)[name].mean().backward()
        gradients[name] = table.grad.clone()
        table.grad = None
    terms = adopted.terms(model, batch)
    (terms["generator"].mean() + 50 * terms["discriminator"].mean()).backward()
    assert all(float(g.abs().max()) > 0 for g in gradients.values())
    torch.testing.assert_close(table.grad, gradients["generator"] + 50 * gradients["discriminator"])


@pytest.mark.parametrize("size", [0.25, 1 / 3, 0.5, 1.0, 0.01])
def test_generators_of_any_size_run(model: Any, size: float) -> None:
    adopted = objective(generator_size=size).adopt(model)
    config = adopted.own.config
    assert config.hidden_size % config.num_attention_heads == 0
    assert config.hidden_size == pytest.approx(32 * size, abs=1)
    assert type(adopted.own) is ElectraForMaskedLM
    assert adopted.terms(model, adopted.batch(examples(), np.random.default_rng(0)))["generator"].value > 0
    assert generator_config(model.config, size).embedding_size == 16
    assert f"width {config.hidden_size}" in adopted.announces


def test_only_hidden_rows_reach_the_generators_head(model: Any) -> None:
    adopted = objective().adopt(model)
    batch, sizes = adopted.batch(examples(), np.random.default_rng(0)), []
    adopted.terms(model, batch)
    head = adopted.own.generator_predictions
    head.register_forward_hook(lambda _, given, __: sizes.append(given[0].numel()))
    adopted.terms(model, batch)
    assert sizes == [len(batch["rows"]) * adopted.own.config.hidden_size]


def test_evaluation_counts_what_is_found(model: Any) -> None:
    adopted = objective().adopt(model)
    sure_of_one_place(adopted)
    batch, original, corrupted = made(adopted, model)
    scores = score(model, adopted, [batch], ["generator", "discriminator"], lambda sums: sums)
    real, replaced = batch["real"], corrupted != original
    with torch.no_grad():
        suspected = model(input_ids=corrupted).logits > 0
    found = (suspected & replaced & real).sum() / replaced.sum()
    assert scores.measures["replaced_recall"] == pytest.approx(float(found))
    assert scores.measures["replaced_precision"] == pytest.approx(
        float((suspected & replaced & real).sum() / (suspected & real).sum())
    )
    assert scores.measures["accuracy"] == pytest.approx(float((suspected == replaced)[real].float().mean()))
    assert scores.measures["original_share"] == pytest.approx(1 - float(replaced[real].float().mean()))
    right = ((corrupted == original) & (batch["labels"] != -100)).sum() / len(batch["rows"])
    assert scores.measures["generator_accuracy"] == pytest.approx(float(right))
    assert scores.loss == pytest.approx(scores.losses["generator"] + 50 * scores.losses["discriminator"])


def test_what_is_shown_marks_the_replaced_and_the_suspected(model: Any) -> None:
    adopted = objective().adopt(model)
    batch, _, corrupted = made(adopted, model)
    with torch.no_grad():
        model.discriminator_predictions.dense_prediction.bias.fill_(-1e4)
    truth, said = adopted.shown(model, batch, TOKENIZER, 32)
    assert said == TOKENIZER.decode(corrupted[0].tolist(), special=True)  # nothing is suspected
    assert "«" in truth
    assert truth.replace("«", "").replace("»", "") == said
    with torch.no_grad():
        model.discriminator_predictions.dense_prediction.bias.fill_(1e4)
    assert adopted.shown(model, batch, TOKENIZER, 32)[1].startswith("[CLS]«")  # special tokens are never suspected


SHAPE = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}
PLAIN = {"vocab_size": 261, "pad_token_id": 257, "max_position_embeddings": 64, "initializer_range": 0.3}
DROPOUT = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
OTHERS = {
    "bert": BertConfig(**SHAPE, **PLAIN, **DROPOUT),
    "modernbert": ModernBertConfig(
        **SHAPE, **PLAIN, cls_token_id=None, sep_token_id=None, global_attn_every_n_layers=1
    ),
    "deberta-v2": DebertaV2Config(**SHAPE, **PLAIN, **DROPOUT, relative_attention=True, position_buckets=8),
}


def test_a_preview_shows_what_the_discriminator_must_say() -> None:
    made, batch = objective(), objective().batch(examples(), np.random.default_rng(0))
    rows = describe(batch, TOKENIZER, made)
    assert [row["part"] for row in rows] == ["generator"] * 4 + ["discriminator"] * 4
    assert rows[:4] == [{"part": "generator"} | row for row in describe(batch, TOKENIZER, made.masked)]
    original = torch.where(batch["labels"] == -100, batch["input_ids"], batch["labels"])
    drawn = {TOKENIZER.token_text(token) for token in original[batch["real"]].tolist()}
    replaced = 0
    for row, text, real, labels in zip(rows[4:], original.tolist(), batch["real"], batch["labels"], strict=True):
        assert [guess["place"] for guess in row["guesses"]] == real.nonzero().flatten().tolist()
        for guess in row["guesses"]:
            was = TOKENIZER.token_text(text[guess["place"]])
            assert guess["answer"] == ("original" if guess["sees"] == was else "replaced")
            assert guess["sees"] in drawn
            assert guess["answer"] == "original" or labels[guess["place"]] != -100
        own = sum(guess["answer"] == "replaced" for guess in row["guesses"])
        assert f"which {own} of {int(real.sum())} tokens" in row["says"]
        assert "drawn by their frequency" in row["says"]
        assert "[MASK]" not in row["sees"]
        replaced += own
    assert replaced > len(batch["rows"]) / 2


@pytest.fixture(params=sorted(OTHERS))
def other(request: Any, tmp_path: Any) -> Any:
    """A discriminator of another kind, made from the folder of its configuration."""
    OTHERS[request.param].save_pretrained(tmp_path)
    made = build_model(str(tmp_path), vocab_size=261, context=32, architecture="replaced_token", pad_id=257)
    return made.eval()


def test_any_encoder_becomes_a_discriminator_with_a_shallower_generator(other: Any) -> None:
    adopted = objective(generator_size=0.5).adopt(other)
    assert adopted.own.config.num_hidden_layers == 1
    assert other.config.num_hidden_layers == 2
    assert tables(adopted.own) == tables(other)
    assert adopted.own.get_output_embeddings().weight is other.get_input_embeddings().weight
    sure_of_one_place(adopted)
    check_terms(adopted, other)
    check_gradient(adopted, other)
    check_objective(adopted, other, examples())


def test_weights_of_a_masked_model_continue_as_a_discriminator(tmp_path: Any) -> None:
    masked = build_model("nano", vocab_size=261, context=32, architecture="masked", pad_id=257)
    masked.save_pretrained(tmp_path)
    made = build_model(str(tmp_path), vocab_size=261, context=32, architecture="replaced_token", pad_id=257)
    assert type(made).__name__ == "ModernBertForTokenClassification"
    assert torch.equal(made.get_input_embeddings().weight, masked.get_input_embeddings().weight)
    assert made(input_ids=torch.zeros(1, 3, dtype=torch.int64)).logits.shape == (1, 3, 1)


def test_a_model_without_a_masked_sibling_is_refused(tmp_path: Any) -> None:
    for config in (GPT2Config(n_embd=8, n_layer=1, n_head=1), T5Config(d_model=8, num_layers=1)):
        config.save_pretrained(tmp_path)
        with pytest.raises(InputError, match="replaced_token needs a model with such a head"):
            build_model(str(tmp_path), vocab_size=261, context=32, architecture="replaced_token", pad_id=257)
    with pytest.raises(InputError, match=r"objective\.adopt\(model\)"):
        objective().terms(None, objective().batch(examples(), np.random.default_rng(0)))


def test_presets_are_discriminators() -> None:
    made = build_model("nano", vocab_size=300, context=40, architecture="replaced_token", pad_id=257)
    assert type(made).__name__ == "ModernBertForTokenClassification"
    assert objective().adopt(made).own.config.num_hidden_layers == 1
    config = preset_config(DISCRIMINATORS["10m"], 300, 40, 256, 257)
    made = instantiate(config, "replaced_token")
    assert type(made).__name__ == "ElectraForPreTraining"
    assert made.config.hidden_dropout_prob == 0
    assert objective().adopt(made).own.config.hidden_size == 96  # a quarter of 384, two heads


def cycles(first: int, n: int = 32, size: int = 14) -> list[dict[str, Any]]:
    """Return examples from a cycle of eight letters, begun anywhere."""
    starts = np.random.default_rng(first).integers(8, size=n)
    return [
        {"tokens": 97 + (np.arange(size) + start) % 8, "index": np.int64(first + k)} for k, start in enumerate(starts)
    ]


def test_it_learns_to_find_what_cannot_be_there(model: Any) -> None:
    """Measured with another start: accuracy 0.87 after 100 steps, where always saying "original" has 0.73."""
    adopted = objective().adopt(model)
    parameters = list({id(p): p for part in (model, adopted.own) for p in part.parameters()}.values())
    optimizer = torch.optim.AdamW(parameters, lr=1e-3)
    for step in range(100):
        terms = adopted.terms(model.train(), adopted.batch(cycles(32 * step), np.random.default_rng(0)))
        (terms["generator"].mean() + 50 * terms["discriminator"].mean()).backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        optimizer.zero_grad()
    held_out = adopted.batch(cycles(10**6, 64), np.random.default_rng(0))
    scores = score(model, adopted, [held_out], ["generator", "discriminator"], lambda sums: sums)
    assert scores.measures["accuracy"] > scores.measures["original_share"] + 0.05
    assert scores.measures["replaced_precision"] > 0.7
    assert scores.losses["generator"] < 4.5  # from ln 257 = 5.55
