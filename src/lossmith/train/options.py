"""Options by what they are about; `lossmith train` and its relatives are made of them. None means: not given."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, kw_only=True)
class TextOptions:
    """Which text, and which tokens."""

    inputs: tuple[str, ...] = ()
    """Files, folders, globs, "-" for stdin, or built-in corpora (--list-corpora); default: shakespeare."""
    eval_file: tuple[str, ...] = ()
    """Validation text; without it a part of the input is held out."""
    text_field: str | None = None
    """Column or key that holds the text in tables; guessed when there is one string column."""
    encoding: str | None = None
    """Encoding of text files; default: utf-8."""
    tokenizer: str | None = None
    """char, byte, bpe:SIZE or a Hugging Face folder; default: the pre-trained --model's own, else bpe:1024."""
    validation_fraction: float | None = None
    """Part of the text held out for validation (at most 8 MiB of it); default: 0.1."""
    split_by: Literal["auto", "document", "tail"] | None = None
    """Hold out whole documents or the contiguous tail of the text; default: auto (documents when there are many)."""
    document_mask: bool = False
    """Tokens attend within their document only."""
    cache_dir: str | None = None
    """Where tokenized text is kept; default: ~/.cache/lossmith."""
    num_workers: int | None = None
    """Processes that tokenize; default: the number of cores."""


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """How long, how fast, with which optimizer, and what is written down meanwhile."""

    output_dir: str | None = None
    """Run folder; default: runs/INPUT-DATE-TIME."""
    per_device_train_batch_size: int | None = None
    """Blocks in one forward pass on one device; default: the preset's, else 8."""
    gradient_accumulation_steps: int | None = None
    """Forward passes summed into one optimizer step; default: 1."""
    max_steps: int | None = None
    """Optimizer steps; default: --num-train-epochs if given, else the preset's, else 1000."""
    num_train_epochs: float | None = None
    """Passes over the training text; --max-steps wins."""
    optim: Literal["sgd", "adam", "adamw", "muon"] | None = None
    """muon: torch.optim.Muon for the hidden matrices, adamw for the rest. Default: the preset's, else adamw."""
    learning_rate: float | None = None
    """Peak learning rate; with muon: that of the matrices. Default: the preset's, else 1e-3 (sgd 0.1, muon 0.02)."""
    adamw_learning_rate: float | None = None
    """With muon: peak rate of what adamw updates (embeddings, head, norms). Default: the preset's, else 3e-3."""
    lr_scheduler_type: Literal["constant", "linear", "cosine", "wsd"] | None = None
    """Schedule after the warm-up; wsd: constant, then linear decay. Default: the preset's, else cosine."""
    warmup_steps: float | None = None
    """Steps of linear warm-up; below 1: a fraction of all steps. Default: the preset's, else 0.05."""
    decay_fraction: float | None = None
    """Part of all steps that wsd spends decaying; default: the preset's, else 0.2."""
    min_lr_rate: float | None = None
    """Learning rate at the end as a fraction of the peak; default: 0."""
    weight_decay: float | None = None
    """Weight decay of matrices (adam, sgd: coupled); default: the preset's, else 0.1 (adam, sgd: 0)."""
    momentum: float | None = None
    """Momentum of sgd and muon; default: the preset's, else 0.9 (muon 0.95)."""
    adam_beta1: float | None = None
    """First-moment decay; default: the preset's, else 0.9."""
    adam_beta2: float | None = None
    """Second-moment decay; default: the preset's, else 0.95."""
    adam_epsilon: float | None = None
    """Added to the root of the second moment; default: 1e-8."""
    max_grad_norm: float | None = None
    """Clip the gradient to this L2 norm; 0: do not clip; default: 1."""
    seed: int | None = None
    """Seed of weights, order and dropout; default: 42."""
    bf16: bool | None = None
    """Compute in bfloat16 autocast; default: where the hardware does it faster."""
    torch_compile: bool = False
    """Compile the model (slow start, faster steps)."""
    logging_steps: int | None = None
    """Steps between lines of metrics.jsonl; default: 10."""
    eval_steps: int | None = None
    """Steps between evaluations; default: a tenth of the run."""
    eval_max_tokens: int | None = None
    """Validation tokens of each evaluation during training (default: 131072); the last evaluation takes them all."""
    save_steps: int | None = None
    """Steps between checkpoints; default: a fifth of the run."""
    save_total_limit: int | None = None
    """Checkpoints kept, the oldest go first; 0: keep all; default: 2."""
    resume_from_checkpoint: str | None = None
    """Continue a run: a checkpoint folder, or (without a value) the newest complete one of --output-dir."""
    sample_prompt: str | None = None
    """Start of the sample written at each evaluation; default: the start of a document."""
    sample_tokens: int | None = None
    """Tokens of each sample; 0: none; default: 200."""
    report_to: Literal["none", "tensorboard"] | None = None
    """tensorboard: also write event files into the run folder; default: none."""
