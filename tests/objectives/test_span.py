"""Span corruption: exact counts, no token lost, ends hidden like the middle, and a loss that is the model's own."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoModelForSeq2SeqLM, BartConfig, MT5Config, T5Config

from lossmith.data import Tokenizer
from lossmith.errors import InputError
from lossmith.models import build_model, encode_decode, seq2seq_path
from lossmith.objectives import OBJECTIVES, UL2, Denoiser, SpanObjective
from lossmith.objectives.preview import describe
from lossmith.objectives.span_options import denoisers_of, fit_span, make_span
from lossmith.objectives.spans import corrupt, noise_mask, restore, text_in_window
from lossmith.testing import ObjectiveError, check_objective
from lossmith.total import Total

TEXT = "The quick brown fox jumps over the lazy dog; 床前明月光，疑是地上霜。 "
T5 = {"denoiser": "t5", "noise_rate": 0.15, "mean_span": 3.0}
MIXED = T5 | {"denoiser": "ul2"}


def tokenizer(options: dict[str, Any] = MIXED, context: int = 48) -> Tokenizer:
    plain = Tokenizer.byte()
    return plain.with_special(["pad", *fit_span(plain, options, context)[1]])


def objective(options: dict[str, Any] = T5) -> SpanObjective:
    return make_span(tokenizer(), options, 3)


def examples(n: int = 4, size: int = 40) -> list[dict[str, Any]]:
    ids = Tokenizer.byte().encode(TEXT * 10).astype(np.int64)
    return [{"tokens": ids[i * size : (i + 1) * size], "index": np.int64(i)} for i in range(n)]


@pytest.fixture(scope="module")
def model() -> Any:
    known = tokenizer()
    return build_model(
        "nano", vocab_size=known.vocab_size, context=48, architecture="seq2seq", end_id=256, pad_id=known.special("pad")
    ).eval()


def runs(mask: np.ndarray) -> int:
    return int((mask & ~np.concatenate([[False], mask[:-1]])).sum())


@given(
    length=st.integers(1, 700), rate=st.floats(0.001, 0.999), mean=st.floats(1, 80), prefix=st.booleans(),
    seed=st.integers(0, 2**32 - 1),
)  # fmt: skip
@settings(max_examples=300, deadline=None)
def test_counts_are_exact_and_no_token_is_lost(length: int, rate: float, mean: float, prefix: bool, seed: int) -> None:
    rng = np.random.default_rng(seed)
    denoiser = Denoiser(rate, mean, prefix=prefix)
    noise, spans = denoiser.sizes(length)
    tokens, sentinels = rng.integers(0, 50, length), np.arange(1000, 1000 + spans)
    mask = denoiser.mask(length, rng)
    assert (int(mask.sum()), runs(mask)) == (noise, spans)
    seen, asked = corrupt(tokens, mask, sentinels)
    assert restore(seen, asked, sentinels).tolist() == tokens.tolist()
    assert (len(seen) + 1, len(asked) + 1) == denoiser.lengths(length)
    assert seen[seen >= 1000].tolist() == asked[asked >= 1000].tolist() == sentinels.tolist()
    assert seen[seen < 1000].tolist() == tokens[~mask].tolist()
    assert asked[asked < 1000].tolist() == tokens[mask].tolist()
    if length > 1 and not prefix:
        assert noise == min(max(round(rate * length), 1), length - 1)


def test_the_ends_are_hidden_as_often_as_the_middle() -> None:
    rng, drawn = np.random.default_rng(0), 20000
    every = np.mean([noise_mask(60, 15, 5, rng) for _ in range(drawn)], axis=0)
    assert every == pytest.approx(np.full(60, 0.25), abs=0.02)  # 6.5 standard errors


def test_every_way_to_lay_two_spans_is_found() -> None:
    rng = np.random.default_rng(0)
    seen = {noise_mask(6, 3, 2, rng).tobytes() for _ in range(2000)}
    every = [np.array([bool(n >> i & 1) for i in range(6)]) for n in range(64)]
    assert seen == {mask.tobytes() for mask in every if mask.sum() == 3 and runs(mask) == 2}


def test_the_window_fills_the_context() -> None:
    assert text_in_window([Denoiser(0.15, 3.0)], 512) == 568  # T5's own figure; its targets then have 114 tokens
    assert Denoiser(0.15, 3.0).lengths(568) == (512, 114)
    for context in (16, 48, 128, 512):
        length = text_in_window(UL2, context)
        assert max(max(denoiser.lengths(length)) for denoiser in UL2) == context
    assert text_in_window([Denoiser(0.15, 3.0)], 1) == 0


def test_what_is_drawn_depends_on_seed_and_index_alone() -> None:
    four = examples()
    for options in (T5, MIXED):
        one = objective(options).batch(four, np.random.default_rng(0))
        two = objective(options).batch(four[::-1], np.random.default_rng(99))
        assert torch.equal(one["input_ids"], two["input_ids"].flip(0))
        assert torch.equal(one["labels"], two["labels"].flip(0))
        next_epoch = [example | {"index": example["index"] + 1000} for example in four]
        later = objective(options).batch(next_epoch, np.random.default_rng(0))
        assert one["labels"].shape != later["labels"].shape or not torch.equal(one["labels"], later["labels"])


def test_every_denoiser_gets_its_turn_and_its_mode() -> None:
    made, known = objective(MIXED), tokenizer()
    rows = [{"tokens": examples(1)[0]["tokens"], "index": np.int64(i)} for i in range(700)]
    seen = made.batch(rows, np.random.default_rng(0))["input_ids"][:, 0].tolist()
    share = {name: seen.count(known.special(f"mode_{name}")) / 700 for name in "rsx"}
    assert share == pytest.approx({"r": 2 / 7, "s": 1 / 7, "x": 4 / 7}, abs=0.08)


def test_padding_is_masked_and_weighs_nothing(model: Any) -> None:
    made = objective(MIXED)
    batch = made.batch(examples(8), np.random.default_rng(0))
    assert (batch["attention_mask"] == 0).any()
    assert ((batch["input_ids"] == made.pad_id) == (batch["attention_mask"] == 0)).all()
    assert (batch["attention_mask"].sum(1).max(), (batch["labels"] != -100).sum(1).max()) == (
        batch["input_ids"].shape[1], batch["labels"].shape[1],
    )  # fmt: skip
    whole = made.terms(model, batch)["span"]
    longer = {
        "input_ids": torch.nn.functional.pad(batch["input_ids"], (0, 5), value=7),
        "attention_mask": torch.nn.functional.pad(batch["attention_mask"], (0, 5)),
        "labels": torch.nn.functional.pad(batch["labels"], (0, 3), value=-100),
    }
    padded = made.terms(model, longer)["span"]
    assert padded.weight == whole.weight == made.counts(batch)["span"]
    torch.testing.assert_close(padded.value, whole.value, rtol=1e-5, atol=1e-4)


SHAPE: dict[str, Any] = {"vocab_size": 300, "d_model": 32, "pad_token_id": 0, "eos_token_id": 1}
STACK: dict[str, Any] = SHAPE | {"d_kv": 16, "d_ff": 48, "num_layers": 1, "num_heads": 2, "decoder_start_token_id": 0}
BART: dict[str, Any] = SHAPE | {
    "encoder_layers": 1, "decoder_layers": 1, "encoder_ffn_dim": 48, "decoder_ffn_dim": 48,
    "encoder_attention_heads": 2, "decoder_attention_heads": 2, "max_position_embeddings": 64,
    "decoder_start_token_id": 1, "bos_token_id": 1,
}  # fmt: skip
MODELS = {
    "T5 (tied, scaled)": T5Config(**STACK),
    "T5 v1.1": T5Config(**STACK, feed_forward_proj="gated-gelu", tie_word_embeddings=False),
    "mT5": MT5Config(**STACK),
    "BART (a bias of its own)": BartConfig(**BART),
}


@pytest.mark.parametrize("name", MODELS)
def test_the_loss_and_its_gradient_are_those_of_the_model(name: str) -> None:
    torch.manual_seed(0)
    theirs = AutoModelForSeq2SeqLM.from_config(MODELS[name]).eval()
    if hasattr(theirs, "final_logits_bias"):
        theirs.final_logits_bias.normal_()
    batch = {"input_ids": torch.randint(2, 300, (3, 9)), "labels": torch.randint(2, 300, (3, 5))}
    batch["labels"][1, 3:] = -100
    batch["attention_mask"] = (torch.arange(9) < torch.tensor([[9], [6], [9]])).long()
    total = objective().terms(theirs, batch)["span"]
    expected = theirs(**batch).loss
    torch.testing.assert_close(total.mean(), expected)
    assert seq2seq_path(theirs) == "decoder states"
    total.mean().backward()
    ours = {key: p.grad.clone() for key, p in theirs.named_parameters() if p.grad is not None}
    theirs.zero_grad()
    expected.backward()
    for key, p in theirs.named_parameters():
        if p.grad is not None:
            torch.testing.assert_close(ours[key], p.grad, rtol=1e-4, atol=1e-5)


def test_a_head_that_hides_itself_is_not_guessed(model: Any) -> None:
    odd = AutoModelForSeq2SeqLM.from_config(T5Config(**STACK)).eval()
    odd.lm_head.register_forward_hook(lambda _, __, out: out * 3)
    ids = torch.randint(2, 300, (2, 6))
    out = encode_decode(odd, {"input_ids": ids}, ids)
    assert (seq2seq_path(odd), out.head) == ("logits", None)
    torch.testing.assert_close(out.decoder, odd(input_ids=ids, labels=ids).logits)


@pytest.mark.parametrize("options", [T5, MIXED], ids=["t5", "ul2"])
def test_span_keeps_the_laws(model: Any, options: dict[str, Any]) -> None:
    check_objective(objective(options), model, examples())


class Uncounted(SpanObjective):
    def counts(self, batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        return {"span": torch.tensor(float(batch["labels"].numel() + 1))}


class Untaken(SpanObjective):
    def batch(self, examples: Any, rng: Any) -> dict[str, torch.Tensor]:
        whole = torch.from_numpy(np.stack([example["tokens"] for example in examples]))
        return {"input_ids": whole, "labels": super().batch(examples, rng)["labels"]}


class Whispering(SpanObjective):
    def terms(self, model: Any, batch: dict[str, torch.Tensor]) -> Any:
        told = batch["input_ids"].clone()
        told[:, 0] = batch["labels"][:, 1]
        return super().terms(model, batch | {"input_ids": told})


class Careless(SpanObjective):
    def batch(self, examples: Any, rng: Any) -> dict[str, torch.Tensor]:
        bare = [{"tokens": example["tokens"]} for example in examples]
        return super().batch(bare, np.random.default_rng())


class Averaged(SpanObjective):
    def terms(self, model: Any, batch: dict[str, torch.Tensor]) -> Any:
        total = super().terms(model, batch)["span"]
        return {"span": Total(total.mean(), total.weight)}


class Unmoved(SpanObjective):
    """The decoder is given the very labels that it must predict."""

    def terms(self, model: Any, batch: dict[str, torch.Tensor]) -> Any:
        labels = batch["labels"]
        early = torch.cat([labels[:, 1:], labels[:, -1:]], 1)
        encode_decode(model, batch, early)
        return super().terms(model, batch | {"labels": early})


@pytest.mark.parametrize(
    ("kind", "law"),
    [
        (Uncounted, "counts"), (Untaken, "leak"), (Whispering, "leak"), (Careless, "repeatable"), (Averaged, "split"),
        (Unmoved, "future"),
    ],
)  # fmt: skip
def test_planted_faults_are_found(model: Any, kind: type[SpanObjective], law: str) -> None:
    good = objective()
    bad = kind(good.denoisers, good.sentinels, good.end_id, good.pad_id)
    with pytest.raises(ObjectiveError, match=law):
        check_objective(bad, model, examples(), laws=[law])


def test_a_row_is_shown_with_its_spans_and_what_the_model_writes(model: Any) -> None:
    made, known = objective(), tokenizer()
    one = {"tokens": Tokenizer.byte().encode("abcdefghijklmnopqrst").astype(np.int64), "index": np.int64(5)}
    batch = made.batch([one], np.random.default_rng(0))
    row = describe(batch, known, made)[0]
    (guess,) = row["guesses"]
    assert guess["sees"] == "<extra_id_0>"
    assert row["sees"].replace("<extra_id_0>", guess["answer"]) == "abcdefghijklmnopqrst<|endoftext|>"
    assert row["target"] == f"<extra_id_0>{guess['answer']}<|endoftext|>"
    assert row["asked"] == f"1 span of {len(guess['answer'])} tokens in all"

    class Knowing:
        config = model.config

        def generate(self, **_: Any) -> torch.Tensor:
            return torch.cat([torch.tensor([[made.pad_id]]), batch["labels"]], 1)

    prompt, text = made.shown(Knowing(), batch, known, 100)
    assert (prompt, text) == (row["sees"], "abcdefghijklmnopqrst<|endoftext|>")
    assert made.shown(model, batch, known, 100)[0] == row["sees"]


def test_options_become_denoisers() -> None:
    assert denoisers_of(T5 | {"noise_rate": 0.5, "mean_span": 8.0}) == (Denoiser(0.5, 8.0),)
    assert denoisers_of(MIXED) == UL2
    assert len(UL2) == 7
    with pytest.raises(InputError, match="belong to --denoiser t5"):
        denoisers_of(MIXED | {"noise_rate": 0.3})
    assert OBJECTIVES["span"].options == T5
