from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from lossmith.data import Tokenizer
from lossmith.errors import InputError
from lossmith.evaluate import next_tokens, sample, sample_stream

CHINESE = "床前明月光，疑是地上霜。🌕举头望明月，低头思故乡。"


def make_model(vocab: int, positions: int = 64, *, seed: int = 0, cls: str = "Llama") -> Any:
    import transformers

    torch.manual_seed(seed)
    config = getattr(transformers, f"{cls}Config")(
        vocab_size=vocab,
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=positions,
        initializer_range=0.5,
        bos_token_id=None,
        eos_token_id=None,
    )
    return getattr(transformers, f"{cls}ForCausalLM")(config).double().eval()


class Parrot(torch.nn.Module):
    """A model that says a fixed text after its first token, and has no cache: an honest, if dull, language model."""

    def __init__(self, ids: list[int], vocab: int, positions: int) -> None:
        super().__init__()
        self.ids, self.vocab = ids, vocab
        self.unused = torch.nn.Parameter(torch.zeros(1))
        self.config = type("Config", (), {"max_position_embeddings": positions})()

    def forward(self, input_ids: Any, **_: Any) -> Any:
        logits = torch.zeros(1, input_ids.shape[1], self.vocab)
        logits[0, -1, self.ids[min(input_ids.shape[1] - 1, len(self.ids) - 1)]] = 50.0
        return type("Output", (), {"logits": logits})()


@pytest.fixture(scope="module")
def byte() -> Tokenizer:
    return Tokenizer.byte()


def greedy(model: Any, ids: list[int], count: int) -> list[int]:
    """The most likely continuation by whole forward passes, no cache."""
    for _ in range(count):
        with torch.no_grad():
            ids = [*ids, int(model(input_ids=torch.tensor([ids])).logits[0, -1].argmax())]
    return ids


@pytest.mark.parametrize("options", [{"temperature": 0}, {"top_k": 1}, {"top_p": 1e-9}, {"temperature": 1e-3}])
def test_every_way_to_be_certain_is_greedy(byte: Tokenizer, options: dict[str, Any]) -> None:
    model = make_model(byte.vocab_size)
    start = [byte.eos_id, *byte.encode("To be")]
    expected = byte.decode(greedy(model, [int(i) for i in start], 30)[len(start) :])
    assert sample(model, byte, "To be", max_new_tokens=30, stop_at_end=False, **options) == "To be" + expected


def test_a_seed_repeats_and_another_differs(byte: Tokenizer) -> None:
    model = make_model(byte.vocab_size)
    one, again, other = (sample(model, byte, "a", max_new_tokens=40, seed=seed) for seed in (1, 1, 2))
    assert one == again != other
    torch.manual_seed(99)
    before = torch.get_rng_state()
    assert sample(model, byte, "a", max_new_tokens=40, seed=1) == one
    assert torch.equal(before, torch.get_rng_state())


def test_frequencies_are_those_of_the_softmax(byte: Tokenizer) -> None:
    model = make_model(byte.vocab_size, seed=3)
    expected = {token.id: token.probability for token in next_tokens(model, byte, "x", top=4).top}
    total = sum(expected.values())
    counts = dict.fromkeys(expected, 0)
    draws = 1500
    from lossmith.evaluate.sampling import _Chooser, encode_context

    with torch.no_grad():
        logits = model(input_ids=torch.tensor([encode_context(byte, "x")])).logits[0, -1]
    choose = _Chooser(1.0, 4, None, 0)
    for _ in range(draws):
        counts[choose(logits)] += 1
    for token, p in expected.items():
        p /= total
        assert abs(counts[token] / draws - p) < 5 * (p * (1 - p) / draws) ** 0.5 + 1e-9


def test_top_p_keeps_the_fewest_that_reach_p(byte: Tokenizer) -> None:
    from lossmith.evaluate.sampling import _Chooser

    logits = torch.tensor([0.5, 0.3, 0.15, 0.05]).log()
    assert {_Chooser(1.0, None, 0.6, seed)(logits) for seed in range(60)} == {0, 1}
    assert {_Chooser(1.0, None, 1.0, seed)(logits) for seed in range(200)} == {0, 1, 2, 3}


@pytest.mark.parametrize("positions", [1, 2, 3, 8, 16])
def test_beyond_the_positions_the_context_slides(byte: Tokenizer, positions: int) -> None:
    model = make_model(byte.vocab_size, positions=positions)
    seen: list[int] = []
    model.register_forward_pre_hook(
        lambda _, args, kwargs: seen.append(
            kwargs["input_ids"].shape[1]
            + (kwargs["past_key_values"].get_seq_length() if kwargs.get("past_key_values") else 0)
        ),
        with_kwargs=True,
    )
    text = sample(model, byte, "a prompt that is longer than it", max_new_tokens=40, stop_at_end=False)
    assert text.startswith("a prompt that is longer than it")
    assert len(seen) == 40
    assert max(seen) == positions
    assert min(seen) > 0.7 * positions


def test_while_it_fits_the_cache_changes_nothing(byte: Tokenizer) -> None:
    model = make_model(byte.vocab_size, positions=50)
    start = [int(byte.eos_id or 0), *map(int, byte.encode("abc"))]
    expected = greedy(model, start, 46)  # exactly to the last position
    text = sample(model, byte, "abc", max_new_tokens=46, temperature=0, stop_at_end=False)
    assert text == "abc" + byte.decode(expected[4:])


@pytest.mark.parametrize("positions", [200, 20])
def test_a_model_without_a_cache_is_sampled_too(byte: Tokenizer, positions: int) -> None:
    ids = [int(i) for i in byte.encode(CHINESE)]
    said = sample(Parrot(ids, byte.vocab_size, positions), byte, max_new_tokens=15)  # type: ignore[arg-type]
    assert said == CHINESE[:5]


@pytest.mark.parametrize("spec", ["byte", "bpe", "char"])
def test_pieces_never_split_a_character(spec: str) -> None:
    tokenizer = {
        "byte": Tokenizer.byte,
        "bpe": lambda: Tokenizer.train_bpe([CHINESE], 270),
        "char": lambda: Tokenizer.char(CHINESE),
    }[spec]()
    ids = [int(i) for i in tokenizer.encode(CHINESE)]
    pieces = list(sample_stream(Parrot(ids, tokenizer.vocab_size, 10_000), tokenizer, max_new_tokens=len(ids)))
    assert "".join(pieces) == CHINESE
    assert not any("\ufffd" in piece for piece in pieces)
    assert len(pieces) > 10


def test_bytes_that_are_no_text_still_come_out(byte: Tokenizer) -> None:
    ids = [0xE5, 0xBA, 0x41, 0xFF, 0xE5]
    pieces = list(sample_stream(Parrot(ids, byte.vocab_size, 100), byte, max_new_tokens=5))
    assert "".join(pieces) == bytes(ids).decode(errors="replace")
    assert any(piece.endswith("A") for piece in pieces)


def test_the_end_mark_ends_the_text(byte: Tokenizer) -> None:
    ids = [*byte.encode("end"), byte.eos_id, *byte.encode("more")]
    model = Parrot([int(i) for i in ids], byte.vocab_size, 100)
    assert sample(model, byte, max_new_tokens=8) == "end"
    assert sample(model, byte, max_new_tokens=8, stop_at_end=False) == "endmore"
    assert sample(model, byte, "prompt", max_new_tokens=0) == "prompt"


def test_the_mode_of_the_model_is_restored_even_when_the_reader_stops(byte: Tokenizer) -> None:
    model = make_model(byte.vocab_size).train()
    stream = sample_stream(model, byte, "a", max_new_tokens=10, stop_at_end=False)
    next(stream), next(stream)
    assert not model.training
    stream.close()
    assert model.training


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_new_tokens": -1}, "--max-new-tokens must be 0 or more; got -1"),
        ({"temperature": -0.1}, "--temperature"),
        ({"temperature": float("nan")}, "--temperature"),
        ({"top_k": 0}, "--top-k must be 1 or more"),
        ({"top_p": 0.0}, "--top-p"),
        ({"top_p": 1.1}, "--top-p"),
    ],
)
def test_options_out_of_range_are_named_at_once(byte: Tokenizer, options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        sample_stream(make_model(byte.vocab_size), byte, "a", **options)


def test_a_prompt_the_tokenizer_does_not_know_is_its_error(tmp_path: Path) -> None:
    from lossmith.data import DataConfig, open_store

    (tmp_path / "a.txt").write_text("abc " * 200)
    store = open_store(DataConfig(inputs=(str(tmp_path / "a.txt"),), tokenizer="char"))
    with pytest.raises(InputError, match="明"):
        sample(make_model(store.tokenizer.vocab_size), store.tokenizer, "明")
