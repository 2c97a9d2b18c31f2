"""Let a model write the answer to each source: greedily, in batches, padded on the side that the model needs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lossmith.data.tokenizers import tokenized
from lossmith.errors import DataError, InputError

PROMPT_END = "\n"  # between a prompt and its answer, where no chat template says what stands there


def write(model: Any, tokenizer: Any, rows: Sequence[Sequence[int]], max_new_tokens: int) -> list[str]:
    """Return the text that a model writes after each row of ids, without special tokens.

    An encoder–decoder reads the row and writes from its start token; a causal model goes on from the row, whose padding
    stands on the left. Greedy: the most likely token each time, until the end token or max_new_tokens; nothing is
    written beyond the model's positions, of which each row has as many as it leaves.
    """
    from lossmith.evaluate.sampling import max_positions

    two_sided, limit = bool(model.config.is_encoder_decoder), max_positions(model) or math.inf
    left = [limit if two_sided else limit - len(row) for row in rows]
    rooms = [int(max(1, min(max_new_tokens, places))) for places in left]
    texts = [""] * len(rows)
    for room in set(rooms):
        places = [i for i, own in enumerate(rooms) if own == room]
        for i, text in zip(places, _written(model, tokenizer, [rows[i] for i in places], room), strict=True):
            texts[i] = text
    return texts


def _written(model: Any, tokenizer: Any, rows: Sequence[Sequence[int]], max_new_tokens: int) -> list[str]:
    import torch

    two_sided = bool(model.config.is_encoder_decoder)
    longest, pad = max(map(len, rows)), tokenizer.pad_token_id
    pad = (tokenizer.eos_token_id or 0) if pad is None else pad
    ids, mask = (torch.full((len(rows), longest), fill, dtype=torch.long) for fill in (pad, 0))
    for i, row in enumerate(rows):
        part = slice(0, len(row)) if two_sided else slice(longest - len(row), longest)
        ids[i, part], mask[i, part] = torch.tensor(list(row)), 1
    with torch.no_grad():
        made = model.generate(
            input_ids=ids.to(model.device), attention_mask=mask.to(model.device), max_new_tokens=max_new_tokens,
            do_sample=False, num_beams=1, pad_token_id=pad, eos_token_id=end_id(model, tokenizer),
        )  # fmt: skip
    made = made if two_sided else made[:, longest:]
    return [str(text) for text in tokenizer.batch_decode(made, skip_special_tokens=True)]


def end_id(model: Any, tokenizer: Any) -> int | None:
    """Return the token that ends an answer: the tokenizer's end, else the model's, else its separator."""
    for found in (tokenizer.eos_token_id, model.config.eos_token_id, tokenizer.sep_token_id):
        if found is not None:
            return int(found[0] if isinstance(found, list) else found)
    return None


def source_ids(tokenizer: Any, source: str, two_sided: bool) -> list[int]:
    """Return the ids of a source as the model was fine-tuned on them: framed for an encoder, else with a newline."""
    if two_sided:
        framed: list[int] = tokenized(tokenizer, source)["input_ids"]
        return framed
    prompt: list[int] = tokenized(tokenizer, source + PROMPT_END, add_special_tokens=False)["input_ids"]
    return prompt


def fitted(ids: list[int], longest: int | None) -> list[int]:
    """Return ids that fit, the last of them kept: it says that the source is over.

    >>> fitted([5, 6, 7, 8], 3), fitted([5, 6], 3)
    ([5, 6, 8], [5, 6])
    """
    return ids if longest is None or len(ids) <= longest else [*ids[: longest - 1], ids[-1]]


def write_all(
    folder: Path, sources: Sequence[str], *, tokenizer: str | None, batch_size: int, max_new_tokens: int
) -> tuple[list[str], list[str]]:
    """Return what the model in a folder writes for each source, and notes: how, and how many sources were cut to fit.

    Errors: DataError for a folder without a model that writes, InputError where its context has no room for a source.
    """
    from transformers import AutoConfig, AutoTokenizer

    from lossmith.evaluate.opening import check_fits, load
    from lossmith.evaluate.sampling import max_positions

    if batch_size < 1 or max_new_tokens < 1:
        raise InputError("--per-device-eval-batch-size and --max-new-tokens must be 1 or more")
    try:
        two_sided = bool(AutoConfig.from_pretrained(folder, local_files_only=True).is_encoder_decoder)
        coder = AutoTokenizer.from_pretrained(tokenizer or str(folder), local_files_only=True)
    except (OSError, ValueError, KeyError) as error:
        raise DataError(f"{folder} holds no model and tokenizer that transformers knows: {error}") from error
    model = load(folder, "AutoModelForSeq2SeqLM" if two_sided else "AutoModelForCausalLM")
    check_fits(len(coder), model, folder)
    limit = max_positions(model)
    longest = limit if two_sided or limit is None else limit - max_new_tokens
    if longest is not None and longest < 2:
        raise InputError(
            f"the model in {folder} has {limit} positions, and --max-new-tokens {max_new_tokens} leaves none of "
            f"them to the source: give {(limit or 0) // 2}, or fewer"
        )
    written, longer = [], 0
    for start in range(0, len(sources), batch_size):
        rows = [source_ids(coder, source, two_sided) for source in sources[start : start + batch_size]]
        longer += sum(longest is not None and len(row) > longest for row in rows)
        written += write(model, coder, [fitted(row, longest) for row in rows], max_new_tokens)
    notes = [f"written greedily, {max_new_tokens} tokens at most"]
    if longer:
        notes.append(f"{longer:,} of {len(sources):,} sources are longer than {longest} tokens: cut to them")
    return written, notes
