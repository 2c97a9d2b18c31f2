"""A run on disk, as Python sees it: its numbers, its model, and what can be asked of it."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lossmith.data import Tokenizer
from lossmith.errors import InputError
from lossmith.models.folder import find_model
from lossmith.train.folder import RunFolder

if TYPE_CHECKING:
    from lossmith.evaluate import NextTokens


class TrainedRun:
    """A run folder with a model: `.result`, `.sample()`, `.next()`, `.model`, `.tokenizer`, `.report`."""

    def __init__(self, path: Path, model_folder: Path) -> None:
        self.path = path
        self.model_folder = model_folder

    def __repr__(self) -> str:
        loss = (self.result or {}).get("eval_loss")
        return f"TrainedRun({str(self.path)!r}" + (f", eval_loss={loss:.4f})" if loss is not None else ")")

    @property
    def result(self) -> dict[str, Any] | None:
        """Result: eval_loss (nats per token), eval_perplexity, eval_bpb (bits per byte), …; None before the end."""
        return RunFolder(self.path).read_run().get("result") if (self.path / "run.json").exists() else None

    @property
    def report(self) -> Path:
        """The report as one HTML file."""
        return self.path / "report.html"

    @cached_property
    def model(self) -> Any:
        """The Hugging Face model, in evaluation mode; DataError for weights that leave parameters out."""
        from lossmith.models.build import whole

        return whole(_class_of(self.model_folder), self.model_folder).eval()

    @cached_property
    def writer(self) -> Any:
        """The model, if it predicts what comes next; InputError if it was trained for something else."""
        kind = type(self.model).__name__
        if getattr(self.model.config, "is_encoder_decoder", False):
            raise InputError(
                f"{self.model_folder} holds a {kind}, an encoder–decoder: it writes what stands for <extra_id_0> in a "
                "text and does not go on from its end. Its samples.jsonl shows what it writes; transformers loads it "
                "with AutoModelForSeq2SeqLM, and model.generate answers tokenizer(text)"
            )
        if not kind.endswith(("ForCausalLM", "LMHeadModel")) and not hasattr(self.model, "generate"):
            raise InputError(
                f"{self.model_folder} holds a {kind}, which fills in what is hidden and cannot say what comes next: "
                "its samples.jsonl shows what it guesses, and transformers loads it with AutoModelForMaskedLM"
            )
        return self.model

    @cached_property
    def tokenizer(self) -> Tokenizer:
        """The tokenizer that was saved with the model."""
        return Tokenizer.load(self.model_folder)

    def sample(self, prompt: str = "", **options: Any) -> str:
        """Let the model continue `prompt`; options as of lossmith.evaluate.sample (max_new_tokens, temperature, …)."""
        from lossmith.evaluate import sample

        return sample(self.writer, self.tokenizer, prompt, **options)

    def next(self, prompt: str, *, top: int = 10, candidates: Sequence[str] = ()) -> NextTokens:
        """Return the most likely next tokens after `prompt`, and what each candidate would cost in nats."""
        from lossmith.evaluate import next_tokens

        return next_tokens(self.writer, self.tokenizer, prompt, top=top, candidates=candidates)


def load_run(folder: str | Path) -> TrainedRun:
    """Open a run folder, its model folder, or one of its checkpoints.

    Of a run without a finished model the newest complete checkpoint is taken.
    Errors: InputError when nothing is there, DataError when there is no model in it yet.
    """
    path = Path(folder)
    model = find_model(path)
    return TrainedRun(path.parent if model == path else path, model)


def _class_of(model: Path) -> Any:
    """Return the class that wrote a model folder; where transformers has no such class, the one of causal models."""
    import transformers

    from lossmith.models.build import architectures

    found = getattr(transformers, (architectures(model) or [""])[0], None)
    return found if hasattr(found, "from_pretrained") else transformers.AutoModelForCausalLM
