"""lossmith sample: continue a prompt with a trained model."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from tyro.conf import FlagCreatePairsOff, Positional, arg

from lossmith.errors import InputError


@dataclass
class Args:
    """Continue a prompt with a trained model."""

    run: Positional[Annotated[Path, arg(metavar="RUN")]]
    """Run folder, its model/ folder, or the model/ folder of one of its checkpoints."""
    prompt: str = ""
    """Text to continue; empty: the model begins a document."""
    max_new_tokens: int = 200
    """How many tokens to add at most."""
    temperature: float = 0.8
    """Below 1 more likely tokens win more often; 0 always takes the most likely one."""
    top_k: int | None = None
    """Draw from the K most likely tokens only."""
    top_p: float | None = None
    """Draw from the fewest tokens whose probability reaches P only."""
    seed: int = 0
    """The same seed gives the same text; sample number i uses seed + i."""
    num_samples: int = 1
    """How many samples to draw."""
    json: FlagCreatePairsOff[bool] = False
    """Print {"samples": [{"seed", "prompt", "text"}]} instead of text."""


def run(args: Args) -> None:
    """Print the samples, each piece as it is made."""
    if args.num_samples < 1:
        raise InputError(f"--num-samples must be 1 or more; got {args.num_samples}")
    from lossmith.train.handle import load_run

    trained = load_run(args.run)
    seeds = range(args.seed, args.seed + args.num_samples)
    if args.json:
        texts = ["".join(_stream(trained, args, seed)) for seed in seeds]
        found = [{"seed": seed, "prompt": args.prompt, "text": t} for seed, t in zip(seeds, texts, strict=True)]
        print(json.dumps({"samples": found}, ensure_ascii=False))
    else:
        for seed in seeds:
            _print(_stream(trained, args, seed), seed, args)


def _stream(trained: Any, args: Args, seed: int) -> Iterator[str]:
    from lossmith.evaluate import sample_stream

    return sample_stream(
        trained.writer,
        trained.tokenizer,
        args.prompt,
        max_new_tokens=args.max_new_tokens,
        temperature=args.temperature,
        top_k=args.top_k,
        top_p=args.top_p,
        seed=seed,
    )


def _print(pieces: Iterator[str], seed: int, args: Args) -> None:
    from rich.console import Console

    from lossmith.pictures.text import clean

    console = Console(highlight=False)
    if args.num_samples > 1:
        console.rule(f"seed {seed}", style="dim", align="left")
    for i, piece in enumerate(pieces):
        # What a model makes up must not steer the terminal; in a pipe it arrives as it is.
        said = clean(piece) if console.is_terminal else piece
        console.out(said, end="", style="bold" if i == 0 and console.is_terminal else None, highlight=False)
        console.file.flush()
    console.out("")
