from __future__ import annotations

import math
import random
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from test_sampling import make_model

from lossmith.data import Tokenizer
from lossmith.errors import DataError, InputError, NonFiniteError, RunError
from lossmith.evaluate import _coder
from lossmith.evaluate._coder import Decoder, Encoder, softmax
from lossmith.evaluate._coder_streams import Streams, code_streams, wide
from lossmith.evaluate.compress import compress, decompress
from lossmith.evaluate.compress_format import model_print, unpack
from lossmith.evaluate.compress_rivals import rivals
from lossmith.evaluate.compress_segments import restore, segments
from lossmith.evaluate.surprisal import surprisal
from lossmith.evaluate.surprise_model import Scorer

BYTE = Tokenizer.byte()
SLOW = settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))


@pytest.fixture(scope="module")
def scorer() -> Scorer:
    return Scorer(make_model(257, positions=16).float(), BYTE, False, "tiny")


@pytest.fixture(scope="module")
def trained(english: str) -> Scorer:
    """A byte model that has learned how often each byte comes, so that its code is shorter than the text."""
    model = make_model(257, positions=32).float()
    data = torch.tensor(list(english.encode()[:20_000])).reshape(-1, 20)
    optimizer = torch.optim.AdamW(model.parameters(), 1e-2)
    for i in range(60):
        batch = data[torch.randperm(len(data), generator=torch.Generator().manual_seed(i))[:64]]
        loss = model(input_ids=batch, labels=batch).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return Scorer(model.eval(), BYTE, False, "trained")


@SLOW
@given(st.binary(max_size=60) | st.text(max_size=30).map(str.encode) | st.sampled_from([b"", b"\0", b"a" * 200]))
def test_any_bytes_come_back(scorer: Scorer, data: bytes) -> None:
    assert decompress(compress(data, scorer).data, scorer) == data


@SLOW
@given(st.text(max_size=60), st.integers(1, 5), st.integers(1, 16))
def test_any_text_comes_back_whatever_the_jobs_and_the_context(
    scorer: Scorer, text: str, jobs: int, context: int
) -> None:
    packed = compress(text.encode(), scorer, jobs=jobs, context=context)
    assert decompress(packed.data, scorer) == text.encode()


def test_the_size_is_the_loss(trained: Scorer, english: str) -> None:
    data = english[20_000:21_500].encode()
    packed = compress(data, trained, jobs=1)
    assert packed.loss_bits / 8 <= len(packed.data) <= 1.001 * packed.loss_bits / 8 + 64
    assert len(packed.data) < 0.75 * len(data)
    # the loss is that of another code path: one pass over whole windows instead of a step a token
    exact = Scorer(make_model(257, positions=32), BYTE, False, "")
    exact.model.load_state_dict(trained.model.state_dict())
    assert packed.loss_bits == pytest.approx(surprisal(exact, data.decode()).total_nats / math.log(2), rel=1e-7)


def test_the_price_of_jobs_is_what_they_cost(trained: Scorer, english: str) -> None:
    data = english[20_000:21_200].encode()
    one, many = compress(data, trained, jobs=1), compress(data, trained, jobs=9)
    assert one.price is None
    assert many.price == pytest.approx(len(many.data) - len(one.data), abs=4)
    assert decompress(many.data, trained) == data


def test_every_stream_is_the_same_alone_as_beside_others(trained: Scorer, english: str) -> None:
    """Another batch size in decoding than in encoding."""
    packed = unpack(compress(english[30_000:30_300].encode(), trained, jobs=5).data)
    model, found = wide(trained.model), []
    for (exceptions, code), length in zip(packed.streams, packed.lengths(), strict=True):
        alone = Streams(model, packed.context, packed.stride)
        decoder = Decoder(code, list(exceptions))
        found += code_streams(alone, [decoder], trained.start_id, [length], None, lambda more: None)[0]
    assert bytes(found) == english[30_000:30_300].encode()


@SLOW
@given(st.binary(max_size=2) | st.sampled_from([b"\0" * 400, b"ab" * 200, "\U0001f600".encode() * 60, b"\xff" * 300]))
def test_long_runs_and_next_to_nothing_come_back(trained: Scorer, data: bytes) -> None:
    packed = compress(data, trained)
    assert decompress(packed.data, trained) == data
    assert len(packed.data) <= len(data) + 64


def test_threads_do_not_matter(trained: Scorer, english: str) -> None:
    data, before = english[:200].encode(), torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        on_two = compress(data, trained, jobs=2).data
        assert torch.get_num_threads() == 2  # put back
        torch.set_num_threads(1)
        assert decompress(on_two, trained) == data
        on_one = compress(data, trained, jobs=2).data
        torch.set_num_threads(2)
        assert decompress(on_one, trained) == data
    finally:
        torch.set_num_threads(before)
    assert on_one == on_two


def test_text_the_tokenizer_does_not_know_is_kept_as_bytes(english: str) -> None:
    tokenizer = Tokenizer.char(english)
    scorer = Scorer(make_model(tokenizer.vocab_size).float(), tokenizer, False, "char")
    data = ("A long enough beginning, 床前明月光, and a long enough end." * 2).encode() + b"\xff\xfe\r\n\0"
    packed = compress(data, scorer)
    assert decompress(packed.data, scorer) == data
    assert "床前明月光".encode() in packed.data
    cut = segments(data, tokenizer)
    assert [segment.raw for segment in cut] == ["床前明月光".encode()] * 2 + [b"\xff\xfe\r\n\0"]
    assert tokenizer.decode(cut[1].tokens) == ", and a long enough end.A long enough beginning, "
    assert restore(cut, tokenizer) == data


def test_noise_grows_by_a_header_only(scorer: Scorer) -> None:
    data = random.Random(0).randbytes(2000)
    packed = compress(data, scorer)
    assert len(packed.data) <= len(data) + 64
    assert decompress(packed.data, scorer) == data


@pytest.fixture(scope="module")
def small(trained: Scorer) -> bytes:
    return compress("Was mich nicht umbringt … 床前明月光".encode(), trained, jobs=2).data


def test_every_flipped_bit_is_refused(trained: Scorer, small: bytes) -> None:
    for at in range(len(small)):
        broken = bytearray(small)
        broken[at] ^= 1 << at % 8
        with pytest.raises(DataError):
            decompress(bytes(broken), trained)


def test_every_cut_is_refused(trained: Scorer, small: bytes) -> None:
    for end in range(len(small)):
        with pytest.raises(DataError):
            decompress(small[:end], trained)
    with pytest.raises(DataError, match="damaged"):
        decompress(small + b"\0", trained)


def test_another_model_and_another_tokenizer_are_refused(trained: Scorer, small: bytes) -> None:
    other = Scorer(make_model(257, positions=32, seed=1).float(), BYTE, False, "other")
    with pytest.raises(InputError, match=r"compressed with the model of fingerprint .* --model other has"):
        decompress(small, other)
    # a tokenizer in which two letters have changed places
    backend = Tokenizer.byte().backend.to_str().replace('"A":65', '"A":66', 1).replace('"B":66', '"B":65', 1)
    tokenizers = pytest.importorskip("tokenizers")
    swapped = Tokenizer("hf", backend=tokenizers.Tokenizer.from_str(backend), eos_id=256)
    with pytest.raises(InputError, match="compressed with the tokenizer of"):
        decompress(small, Scorer(trained.model, swapped, False, "swapped"))


def test_one_changed_weight_changes_the_fingerprint(scorer: Scorer) -> None:
    other = make_model(257, positions=16).float()
    assert model_print(other) == model_print(scorer.model)
    with torch.no_grad():
        other.lm_head.weight[3, 4] += 1e-6
    assert model_print(other) != model_print(scorer.model)


def test_a_machine_that_computes_otherwise_is_noticed(trained: Scorer, small: bytes) -> None:
    """The same fingerprints and other logits: never wrong output."""
    liar = Scorer(make_model(257, positions=32, seed=5).float(), BYTE, False, "liar")
    forged = unpack(small).__class__(**{**vars_of(unpack(small)), "model": model_print(liar.model)}).pack()
    with pytest.raises(RunError, match="this machine computes the model differently"):
        decompress(forged, liar)


def vars_of(packed: Any) -> dict[str, Any]:
    return {name: getattr(packed, name) for name in packed.__dataclass_fields__}


def roundtrip(noise: float, vocabulary: int, count: int, scales: tuple[float, ...] = (0.1, 3, 30, 400)) -> bool:
    rng = np.random.default_rng(0)
    rows = [rng.normal(size=vocabulary) * rng.choice(scales) for _ in range(count)]
    tokens = [int(rng.choice(vocabulary, p=softmax(row))) for row in rows]
    encoder = Encoder()
    for row, token in zip(rows, tokens, strict=True):
        encoder.code(row, token)
    code = encoder.finish()
    assert 8 * len(code) <= encoder.nats / math.log(2) * 1.001 + 40 + len(encoder.exceptions) * math.log2(vocabulary)
    decoder = Decoder(code, encoder.exceptions)
    try:
        return tokens == [decoder.code(row * (1 + noise * rng.normal(size=vocabulary)), None) for row in rows]
    except RunError:
        return False


@pytest.mark.parametrize(("vocabulary", "count"), [(2, 3000), (257, 3000), (2049, 1000), (50_257, 150)])
def test_the_coder_survives_other_last_bits(vocabulary: int, count: int) -> None:
    assert roundtrip(0.0, vocabulary, count)
    assert roundtrip(1e-15, vocabulary, count)


def test_without_the_exceptions_it_would_not(monkeypatch: pytest.MonkeyPatch) -> None:
    """Planted fault: noise that wide exceptions allow for, narrow ones do not, and none do not."""
    for near, survives in ((2.0**-6, True), (_coder._NEAR, False), (0.0, False)):
        monkeypatch.setattr(_coder, "_NEAR", near)
        assert roundtrip(1e-10, 257, 3000, (3.0,)) == survives


def test_broken_weights_and_impossible_calls_are_said(scorer: Scorer) -> None:
    broken = make_model(257, positions=16).float()
    with torch.no_grad():
        broken.lm_head.weight.fill_(math.nan)
    with pytest.raises(NonFiniteError, match="weights are broken"):
        compress(b"abc", Scorer(broken, BYTE, False, "broken"))
    with pytest.raises(InputError, match="--jobs must be 1 to 4096; got 0"):
        compress(b"abc", scorer, jobs=0)
    with pytest.raises(InputError, match=r"--context must be at least 1 and at most 16, .* got 17"):
        compress(b"abc", scorer, context=17)
    with pytest.raises(InputError, match="is a masked model"):
        compress(b"abc", Scorer(scorer.model, BYTE, True, "bert"))
    with pytest.raises(DataError, match="does not begin as they do"):
        decompress(b"PK\3\4", scorer)


def test_a_later_format_is_named(small: bytes, trained: Scorer) -> None:
    with pytest.raises(DataError, match="format 9 and this lossmith reads format 1"):
        decompress(small[:4] + b"\x09" + small[5:], trained)


def test_given_a_text_rivals_learn_from_it(english: str) -> None:
    data, before = english[30_000:40_000].encode(), english[:30_000].encode()
    alone, given = rivals(data), rivals(data, before)
    assert list(alone)[:3] == ["gzip -9", "xz -9e", "zstd -19"]
    assert all(given[name] < alone[name] for name in alone if name != "gzip -9")
