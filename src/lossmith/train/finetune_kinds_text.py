"""The tasks whose answer is text: a source becomes a target, a prompt gets its answer; only the answer weighs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lossmith.data.labelled import Labelled
from lossmith.data.tokenizers import tokenized
from lossmith.errors import DataError, InputError
from lossmith.evaluate.bootstrap import Resampling
from lossmith.evaluate.generating import PROMPT_END, end_id, fitted, write
from lossmith.evaluate.generation import generation_outcome
from lossmith.evaluate.outcome import Outcome, Yardstick, mean_outcome
from lossmith.objectives.tasks_losses import task_loss
from lossmith.objectives.tasks_text import AnswerObjective, right_tokens
from lossmith.train.finetune_encode import Coder
from lossmith.train.finetune_kinds import Found, Kind

ANSWERS_SHOWN = 5  # validation prompts that are answered at an evaluation


class Answering(Kind):
    """What seq2seq and instruction share: prompt and answer as ids, the answer's cost, the written answers."""

    auto = "AutoModelForCausalLM"
    unit = "nats/token"
    two_sided = False

    def examples(self, rows: Sequence[Labelled], coder: Coder) -> list[dict[str, Any]]:
        """Return "tokens" and "labels" of each row; the first --generate-examples rows are written at evaluations."""
        most = self.config.generate_examples or ANSWERS_SHOWN
        made = [self.example(row, coder) | {"generate": i < most} for i, row in enumerate(rows)]
        for example in made:
            if not (example["labels"] != -100).any():
                example["weightless"] = True
        return made

    def example(self, row: Labelled, coder: Coder) -> dict[str, Any]:
        """Return one example."""
        raise NotImplementedError

    def objective(self, pad_id: int) -> AnswerObjective:
        """Return the objective of answers."""
        name = "linear_cross_entropy" if self.config.loss == "cross_entropy" else self.config.loss
        return AnswerObjective(task_loss(self.task, name, self.config.loss_options), pad_id, self.two_sided)

    def answers(self, model: Any, objective: Any, batch: dict[str, Tensor]) -> tuple[Found, Any]:
        """Return for each row how many tokens were guessed right, of how many, their nats, and what was written."""
        parts = objective.states(model, batch)
        right, nats = right_tokens(parts)
        owner = (batch["labels"] != -100).nonzero()[:, 0]
        sums = torch.zeros(len(batch["labels"]), 3, dtype=torch.float64, device=owner.device)
        columns = torch.stack([right.double(), torch.ones_like(nats).double(), nats.double()], 1)
        sums = sums.index_add(0, owner, columns)
        written = self.written(model, batch)
        found = [(*row, written.get(i)) for i, row in enumerate(sums.tolist())]
        return found, objective.total(parts)

    def written(self, model: Any, batch: dict[str, Tensor]) -> dict[int, str]:
        """Return what the model writes for the rows that ask for it."""
        places = batch["generate"].nonzero()[:, 0].tolist()
        if not places:
            return {}
        longest = self.config.max_new_tokens or 64
        rows = [self.prompt(batch, place) for place in places]
        return dict(zip(places, write(model, self.coder.tokenizer, rows, longest), strict=True))

    def prompt(self, batch: dict[str, Tensor], place: int) -> list[int]:
        """Return the ids that the answer of a row follows."""
        ids: list[int] = batch["input_ids"][place][batch["attention_mask"][place] == 1].tolist()
        if self.two_sided:
            return ids
        asked = (batch["labels"][place] != -100).nonzero()[0, 0]
        return ids[: int(asked) + 1]

    @property
    def coder(self) -> Coder:
        """What made the examples."""
        return self._coder

    def use(self, coder: Coder, model: Any) -> None:
        """Know the tokenizer and the kind of model before examples are made."""
        self._coder, self.two_sided = coder, bool(model.config.is_encoder_decoder)
        self.end = end_id(model, coder.tokenizer)

    def shown(self, row: Labelled, answer: Any) -> str:
        """Return what was written, and the right answer."""
        return f"{answer[3] or '–'}\n= {self.right(row)}"

    def right(self, row: Labelled) -> str:
        """Return the right answer."""
        return str(row.label)

    def causal_example(self, parts: Sequence[tuple[list[int], bool]], coder: Coder) -> dict[str, Any]:
        """Return ids and labels of (ids, is it an answer) one after another, cut to the context."""
        tokens = np.array([i for ids, _ in parts for i in ids], np.int64)
        labels = np.array([i if answer else -100 for ids, answer in parts for i in ids], np.int64)
        return {"tokens": tokens[: coder.longest], "labels": labels[: coder.longest], "whole": len(tokens)}

    def plain(self, prompt: str, answer: str, coder: Coder) -> dict[str, Any]:
        """Return prompt, newline, answer, end."""
        ids = tokenized(coder.tokenizer, [prompt + PROMPT_END, answer], add_special_tokens=False)["input_ids"]
        return self.causal_example([(ids[0], False), (ids[1] + self.ending(), True)], coder)

    def ending(self) -> list[int]:
        """Return the end token, if the tokenizer has one."""
        return [] if self.end is None else [self.end]


class Seq2Seq(Answering):
    """A target text to a source text: translation, summary, answer to a question."""

    task = "seq2seq"
    auto = "AutoModelForSeq2SeqLM"

    def example(self, row: Labelled, coder: Coder) -> dict[str, Any]:
        """Return source and target; for a causal model source, newline, target, end."""
        if not self.two_sided:
            return self.plain(row.texts[0], row.label, coder)
        source = tokenized(coder.tokenizer, row.texts[0])["input_ids"]
        target = tokenized(coder.tokenizer, text_target=row.label)["input_ids"]
        target = target if target and target[-1] == self.end else target + self.ending()
        kept = np.array(fitted(source, coder.longest), np.int64)
        whole = max(len(source), len(target)) if len(target) > coder.longest else len(source)
        labels = np.array(target[: coder.longest], np.int64)
        return {"tokens": kept, "labels": labels, "whole": len(kept) + max(0, whole - coder.longest)}

    def outcome(self, rows: Sequence[Labelled], found: Found, how: Resampling) -> Outcome:
        """Return BLEU and chrF of the written rows beside copying the source."""
        chosen = [(row, answer[3]) for row, answer in zip(rows, found, strict=True) if answer[3] is not None]
        references, texts = [row.label for row, _ in chosen], [text for _, text in chosen]
        outcome = generation_outcome(references, texts, how, sources=[row.texts[0] for row, _ in chosen])
        outcome.notes.append(f"{len(chosen):,} of {len(rows):,} validation rows were written (--generate-examples)")
        return outcome


class Instruction(Answering):
    """An answer to a prompt, or the assistant's part of a conversation."""

    task = "instruction"

    def example(self, row: Labelled, coder: Coder) -> dict[str, Any]:
        """Return the conversation as the model's chat template writes it; without one prompt, newline, answer, end."""
        told = row.label if isinstance(row.label, tuple) else (("user", row.texts[0]), ("assistant", row.label))
        if getattr(coder.tokenizer, "chat_template", None):
            return self.causal_example(self.templated(told, coder.tokenizer, row.row), coder)
        parts: list[tuple[list[int], bool]] = []
        for role, content in told:
            text = content if role == "assistant" else content + PROMPT_END
            ids = tokenized(coder.tokenizer, text, add_special_tokens=False)["input_ids"]
            parts.append((ids + self.ending(), True) if role == "assistant" else (ids, False))
        return self.causal_example(parts, coder)

    def templated(self, told: Sequence[tuple[str, str]], tokenizer: Any, row: int) -> list[tuple[list[int], bool]]:
        """Return the parts of a conversation: what an assistant's turn adds weighs.

        Errors: DataError where the template writes a turn otherwise once more turns follow: parts have no place then.
        """
        messages = [{"role": role, "content": content} for role, content in told]
        parts: list[tuple[list[int], bool]] = []
        done: list[int] = []
        for i, message in enumerate(messages):
            if message["role"] != "assistant":
                continue
            before = template_ids(tokenizer, messages[:i], generation=True)
            after = template_ids(tokenizer, messages[: i + 1], generation=False)
            if before[: len(done)] != done or after[: len(before)] != before:
                raise DataError(
                    f"row {row}: the chat template changes earlier turns when later ones follow, so that answers "
                    "cannot be told from prompts: give --prompt-column and --response-column instead"
                )
            parts += [(before[len(done) :], False), (after[len(before) :], True)]
            done = after
        return parts

    def outcome(self, rows: Sequence[Labelled], found: Found, how: Resampling) -> Outcome:
        """Return the share of answer tokens guessed right and their cost, beside guessing evenly."""
        sums = np.array([answer[:3] for answer in found])
        names = ("token_accuracy", "nats_per_token")
        units = np.stack([sums[:, 0], sums[:, 2], sums[:, 1]], 1)
        outcome = mean_outcome("instruction", names, units, how)
        size = len(self.coder.tokenizer)
        even = {"token_accuracy": 1 / size, "nats_per_token": float(np.log(size))}
        outcome.yardsticks = [Yardstick("uniform", "every token alike", even)]
        return outcome

    def asked(self, row: Labelled) -> str:
        """Return the beginning of the prompt."""
        return (row.texts[0] if row.texts else row.label[0][1])[:200]

    def right(self, row: Labelled) -> str:
        """Return the right answer."""
        return str(row.label if isinstance(row.label, str) else row.label[-1][1])


def template_ids(tokenizer: Any, messages: list[dict[str, str]], *, generation: bool) -> list[int]:
    """Return the ids of messages as a chat template writes them."""
    text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=generation)
    ids: list[int] = tokenized(tokenizer, text, add_special_tokens=False)["input_ids"]
    return ids


def seq2seq_class(folder: Path | None) -> str:
    """Return the Auto class of a seq2seq task: of encoder–decoders, or of causal models if it holds one."""
    from transformers import AutoConfig

    if folder is None:
        return Seq2Seq.auto
    try:
        config = AutoConfig.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError, KeyError) as error:
        raise InputError(f"{folder} holds no model that transformers knows: {error}") from error
    return Seq2Seq.auto if config.is_encoder_decoder else Answering.auto
