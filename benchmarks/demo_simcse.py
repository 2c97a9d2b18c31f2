"""Demonstration 2: does SimCSE on raw sentences lift similarity over the encoder that it starts from? Three seeds.

    python benchmarks/demo_simcse.py [--body-steps 1000 | --body RUN] [--steps 100] [--seeds 1 2 3] [--try]

The body is made as in benchmarks/demo_pretraining.py --data sections (masked and next-sentence pre-training on Debian's
package descriptions, without those of the test rows); `lossmith train --objective contrastive` goes on from it, on the
sentences of the same prose: two dropouts of one sentence are a pair, nobody says which sentences belong together.

Encoders: untrained (the body's shape, random weights), token average (mean of the body's token embeddings), pre-trained
(the body), simcse; all but the second by mean pooling. Beside them, without seeds: tf-idf on the judged texts.
tags: Spearman of the cosines of package descriptions with the Jaccard similarity of their debtags, which people gave
them for their subjects (use, field, works-with, …): all pairs of the test packages with three such tags or more.
lee: Spearman with what people said of 1,225 pairs of 50 news texts (another domain than the training's).
Interval: mean ± t(0.975, n−1)·s/√n over the seeds; gains are paired by seed, the body's figure being one.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections import Counter
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from demo_data import CACHE, sections, tagged
from demo_data_similarity import lee
from demo_pretraining import pretrained
from demo_runs import AT_ONCE, bare, over_seeds, pretrain, side_by_side
from rows import keep
from scipy.stats import spearmanr  # type: ignore[import-untyped]
from transformers.utils import logging

from lossmith.evaluate.encoders import embeddings, open_encoder

Vectors = np.ndarray
Judged = tuple[list[str], np.ndarray]


def encoded(folder: Path, texts: list[str]) -> Vectors:
    """Return unit vectors by mean pooling."""
    return embeddings(open_encoder(folder, "AutoModel"), texts, 64, "mean")


def token_average(folder: Path, texts: list[str]) -> Vectors:
    """Return the mean of the token embeddings of each text, of unit length."""
    encoder = open_encoder(folder, "AutoModel")
    table = encoder.model.get_input_embeddings().weight.detach().double().numpy()
    means = [table[encoder.tokenizer(text, add_special_tokens=False)["input_ids"]].mean(0) for text in texts]
    return np.stack([mean / np.linalg.norm(mean) for mean in means])


def tf_idf(texts: list[str]) -> Vectors:
    """Return unit tf-idf vectors over lower-case words, counted on the texts themselves."""
    counts = [Counter("".join(c if c.isalnum() else " " for c in text.lower()).split()) for text in texts]
    found = Counter(word for count in counts for word in count)
    place = {word: i for i, word in enumerate(found)}
    out = np.zeros((len(texts), len(place)))
    for row, count in enumerate(counts):
        for word, n in count.items():
            out[row, place[word]] = n * math.log(len(texts) / found[word])
    out /= np.maximum(np.linalg.norm(out, axis=1, keepdims=True), 1e-12)
    return out


def alike(sets: list[frozenset[str]]) -> np.ndarray:
    """Return the Jaccard similarity of every two sets, float64[n, n]."""
    return np.array([[len(a & b) / len(a | b) for b in sets] for a in sets])


def spearman(vectors: Vectors, people: np.ndarray) -> float:
    """Return Spearman's correlation over the pairs of different texts."""
    upper = np.triu_indices(len(people), 1)
    return float(spearmanr((vectors @ vectors.T)[upper], people[upper]).statistic)


def one_seed(
    seed: int, args: argparse.Namespace, judged: dict[str, Judged], prose: Path
) -> dict[str, dict[str, float]]:
    """Train with a seed and measure the four encoders: {encoder: {task: Spearman}}."""
    logging.set_verbosity_error()  # the head that an encoder leaves behind is meant
    model = args.body / "model"
    simcse = pretrain(
        f"simcse-{seed}", inputs=(str(prose),), objective="contrastive", sentence_split="sentence", seed=seed,
        model=str(args.body), per_device_train_batch_size=args.batch, max_steps=args.steps, optim="adamw",
        learning_rate=args.learning_rate, dropout=args.dropout, temperature=args.temperature, save_steps=10**6,
        eval_steps=args.steps, validation_fraction=0.01, sample_tokens=0, block_size=128,
    )  # fmt: skip
    folders = {"untrained": bare(args.body, f"simcse-bare-{seed}", seed=seed), "pre-trained": model}
    found = {
        name: {task: spearman(encoded(folder, texts), y) for task, (texts, y) in judged.items()}
        for name, folder in (folders | {"simcse": simcse / "model"}).items()
    }
    return found | {"token_average": {t: spearman(token_average(model, x), y) for t, (x, y) in judged.items()}}


def measured(args: argparse.Namespace, judged: dict[str, Judged], prose: Path) -> dict[str, Any]:
    """Train and measure every seed."""
    each = side_by_side({"seeds": [partial(one_seed, seed, args, judged, prose) for seed in args.seeds]})["seeds"]
    found = {name: [one[name] for one in each] for name in ("untrained", "token_average", "pre-trained", "simcse")}
    reference = {task: round(spearman(tf_idf(texts), y), 4) for task, (texts, y) in judged.items()}
    out: dict[str, Any] = {
        name: {task: over_seeds([row[task] for row in rows]) for task in judged} for name, rows in found.items()
    }
    for name in ("untrained", "token_average", "pre-trained"):
        both = list(zip(found["simcse"], found[name], strict=True))
        gains = {task: over_seeds([ours[task] - theirs[task] for ours, theirs in both]) for task in judged}
        out[f"gain over {name}"] = gains
    return out | {"tf-idf": reference}


def main() -> None:
    """Measure and keep the row."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--body", type=Path, help="a run of an earlier call, instead of pre-training anew")
    parser.add_argument("--body-steps", type=int, default=1000)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--learning-rate", type=float, default=1e-3)
    parser.add_argument("--dropout", type=float, default=0.1)
    parser.add_argument("--temperature", type=float, default=0.05)
    parser.add_argument("--try", action="store_true", dest="dry", help="packages of the training rows, and keep no row")
    args = parser.parse_args()
    start = time.perf_counter()
    train, test, prose = sections(CACHE / "sections")
    args.body = args.body or pretrained("simcse-body", prose, args.body_steps)
    texts, sets = tagged(train if args.dry else test)
    judged = {"tags": (texts, alike(sets))} | ({} if args.dry else {"lee": lee(CACHE / "similarity")})
    row = measured(args, judged, prose)
    options = {name: value for name, value in vars(args).items() if name not in ("body", "body_steps", "dry")}
    options["body_steps"] = json.loads((args.body / "run.json").read_text(encoding="utf-8"))["steps"]
    about = {"unit": "Spearman's correlation", "judged_texts": {task: len(x) for task, (x, _) in judged.items()}}
    took = AT_ONCE | {"body": args.body.name, "seconds": round(time.perf_counter() - start)}
    if not args.dry:
        keep("demo_simcse", {**about, **row, **options, **took})
    else:
        print(json.dumps(row))


if __name__ == "__main__":
    main()
