"""Does SimCSE on raw sentences lift similarity over the encoder that it starts from? Three seeds, text kept apart.

    OMP_NUM_THREADS=2 python benchmarks/demo_simcse.py [--data DIR] [--masked-steps N] [--steps N] [--seeds 0 1 2]

Raw text: --verses of the verses that the World English Bible and the King James Version share, each a line of its own
(nobody says which belong together), and the sentences of 300 news texts (benchmarks/demo_data_similarity.py). For each
seed: `lossmith train --objective masked` on it, then `--objective contrastive` on the same lines, from that model.

Encoders, each on both tasks: untrained (the masked model's shape, random weights, mean pooling), token average (mean of
the masked model's token embeddings), masked (mean pooling), simcse (mean pooling). Beside them, without seeds: tf-idf.
lee: Spearman of cosines with what people said of 1,225 pairs of 50 news texts, none of them in the raw text.
verses: the held-out verses of one translation are looked up among those of the other: recall at 1 of 1,000, mean
reciprocal rank. Interval: mean ± t(0.975, n−1)·s/√n over the seeds; gains are paired by seed.
"""

from __future__ import annotations

import argparse
import math
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import torch
from demo_data_similarity import background, fetch, lee, verses
from rows import keep
from scipy.stats import spearmanr, t  # type: ignore[import-untyped]
from transformers import AutoConfig, AutoModel, AutoTokenizer, BertConfig
from transformers.utils import logging

import lossmith
from lossmith.data.splitting import cut
from lossmith.evaluate.encoders import embeddings, open_encoder
from lossmith.evaluate.retrieval import ranks

ASKED = 1000
Vectors = np.ndarray


def raw_text(folder: Path, learnt: list[tuple[str, str]], target: Path) -> int:
    """Write the sentences to learn from, one a line, and return how many there are."""
    lines = [verse for pair in learnt for verse in pair]
    lines += [sentence for _, sentence in cut(((True, text) for text in background(folder)), "sentence")]
    target.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return len(lines)


def pretrained(text: Path, work: Path, seed: int, args: argparse.Namespace) -> tuple[Path, Path]:
    """Return the folders of a masked model and of SimCSE from it."""
    shared: dict[str, Any] = {
        "seed": seed, "eval_steps": 10**6, "save_steps": 10**6, "eval_max_tokens": 1, "sample_tokens": 0,
        "logging_steps": 20, "validation_fraction": 0.002, "bf16": False,
    }  # fmt: skip
    shape = work / "shape"
    BertConfig(
        num_hidden_layers=args.layers, hidden_size=args.width, num_attention_heads=args.width // 64,
        intermediate_size=4 * args.width, initializer_range=0.049, hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0, max_position_embeddings=args.context,
    ).save_pretrained(shape)  # fmt: skip
    masked = lossmith.train(
        text, objective="masked", tokenizer=f"bpe:{args.vocabulary}", block_size=args.context,
        model=str(shape), optim="muon", learning_rate=0.02, adamw_learning_rate=0.007, weight_decay=0.0,
        max_steps=args.masked_steps, per_device_train_batch_size=16, output_dir=str(work / f"masked-{seed}"), **shared,
    )  # fmt: skip
    simcse = lossmith.train(
        text, objective="contrastive", sentence_split="line", model=str(masked.path), block_size=args.context,
        per_device_train_batch_size=args.batch, max_steps=args.steps, optim="adamw", learning_rate=args.learning_rate,
        output_dir=str(work / f"simcse-{seed}"), **shared,
    )  # fmt: skip
    return masked.path / "model", simcse.path / "model"


def untrained(masked: Path, target: Path, seed: int) -> Path:
    """Write the masked model's shape with random weights, and its tokenizer."""
    torch.manual_seed(seed)
    AutoModel.from_config(AutoConfig.from_pretrained(masked)).save_pretrained(target)
    AutoTokenizer.from_pretrained(masked).save_pretrained(target)
    return target


def encoded(folder: Path, texts: list[str]) -> tuple[Vectors, int]:
    """Return unit vectors by mean pooling, and how many texts were cut."""
    encoder = open_encoder(folder, "AutoModel")
    return embeddings(encoder, texts, 64, "mean"), encoder.longer


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


def figures(news: Vectors, human: np.ndarray, queries: Vectors, documents: Vectors) -> dict[str, float]:
    """Return Spearman on the judged pairs, recall at 1 and mean reciprocal rank on the verses."""
    upper = np.triu_indices(len(human), 1)
    place = ranks(queries, documents, range(len(queries)))
    return {
        "lee_spearman": float(spearmanr((news @ news.T)[upper], human[upper]).statistic),
        "verses_recall_at_1": float((place < 1).mean()),
        "verses_mrr": float((1 / (place + 1)).mean()),
    }


def interval(values: list[float]) -> list[float]:
    """Return mean and half width of the 95 % interval of Student's t."""
    n = len(values)
    half = t.ppf(0.975, n - 1) * np.std(values, ddof=1) / math.sqrt(n) if n > 1 else math.nan
    return [round(float(np.mean(values)), 4), round(float(half), 4)]


def measured(args: argparse.Namespace, work: Path) -> dict[str, Any]:
    """Train and measure every seed."""
    data = fetch(args.data)
    pairs, (news, human) = verses(data), lee(data)
    order = np.random.default_rng(0).permutation(len(pairs))
    asked, learnt = ([pairs[i] for i in part] for part in (order[:ASKED], order[ASKED : ASKED + args.verses]))
    lines = raw_text(data, learnt, work / "raw.txt")
    texts = [news, [one for one, _ in asked], [two for _, two in asked]]
    both = tf_idf(texts[1] + texts[2])
    reference = figures(tf_idf(news), human, both[:ASKED], both[ASKED:])
    found: dict[str, list[dict[str, float]]] = {"untrained": [], "token_average": [], "masked": [], "simcse": []}
    cuts = 0
    for seed in args.seeds:
        masked, simcse = pretrained(work / "raw.txt", work, seed, args)
        folders = {"untrained": untrained(masked, work / f"untrained-{seed}", seed), "masked": masked, "simcse": simcse}
        for name, folder in folders.items():
            vectors, longer = zip(*(encoded(folder, part) for part in texts), strict=True)
            found[name].append(figures(vectors[0], human, *vectors[1:]))
            cuts = max(cuts, sum(longer))
        averaged = [token_average(masked, part) for part in texts]
        found["token_average"].append(figures(averaged[0], human, *averaged[1:]))
        print(f"seed {seed}", {name: rows[-1] for name, rows in found.items()}, flush=True)
    return {"lines": lines, "judged_pairs": 1225, "texts_cut": cuts, **table(found), "tf_idf": rounded(reference)}


def rounded(row: dict[str, float]) -> dict[str, float]:
    """Return four decimals of each figure."""
    return {name: round(value, 4) for name, value in row.items()}


def table(found: dict[str, list[dict[str, float]]]) -> dict[str, Any]:
    """Return [mean, half width] of each figure and encoder, and of SimCSE's gain over each of the others."""
    names = list(found["simcse"][0])
    out: dict[str, Any] = {
        kind: {name: interval([row[name] for row in rows]) for name in names} for kind, rows in found.items()
    }
    for kind in ("untrained", "token_average", "masked"):
        both = list(zip(found["simcse"], found[kind], strict=True))
        out[f"gain_over_{kind}"] = {
            name: interval([ours[name] - theirs[name] for ours, theirs in both]) for name in names
        }
    return out


def main() -> None:
    """Measure and keep the row."""
    logging.set_verbosity_error()  # the untrained pooler and the head left behind are meant
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, default=Path.home() / ".cache" / "lossmith" / "demo-similarity")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    for name, default in (("masked-steps", 300), ("steps", 100), ("batch", 64), ("context", 128), ("verses", 6000)):
        parser.add_argument(f"--{name}", type=int, default=default)
    for name, default in (("layers", 2), ("width", 128), ("vocabulary", 4096)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--learning-rate", type=float, default=1e-3)
    parser.add_argument("--try", action="store_true", dest="dry", help="print, and keep no row")
    args = parser.parse_args()
    start, cpu = time.perf_counter(), time.process_time()
    with tempfile.TemporaryDirectory() as work:
        row = measured(args, Path(work))
    options = {name: value for name, value in vars(args).items() if name not in ("data", "dry")}
    unit = "[mean, half width of the 95 % interval over seeds]"
    took = {"seconds": round(time.perf_counter() - start), "cpu_seconds": round(time.process_time() - cpu)}
    row = {"unit": unit, **row, **options, "threads": torch.get_num_threads(), **took}
    if args.dry:
        print(row)
    else:
        keep("demo_simcse", row)


if __name__ == "__main__":
    main()
