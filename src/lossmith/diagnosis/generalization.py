"""Checks of training against eval loss: overfitting, the gap, memorisation by epochs, losses too good to be true."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from lossmith.diagnosis._facts import Facts, facts, found_by
from lossmith.diagnosis._finding import Finding, Severity
from lossmith.diagnosis._series import Floats, Series, running_median, spread
from lossmith.runs import Run

OVERFIT = "https://doi.org/10.1109/access.2024.3402543 (OverfitGuard: validation history; last over lowest)"
PLAYBOOK = "https://github.com/google-research/tuning_playbook"
STAIRS = "https://github.com/tatsu-lab/stanford_alpaca/issues/236"
SHANNON = "https://www.princeton.edu/~wbialek/rome/refs/shannon_51.pdf (entropy of printed English)"


def overfit(run: Run, *, rise: float = 0.045, sigmas: float = 2.0) -> Iterator[Finding]:
    """Find an eval loss that rises from its lowest while the training loss does not.

    (last − lowest) / lowest > `rise`, both smoothed (see `rise_from_lowest`), and beyond `sigmas` of the noise of
    single evals. One bad epoch, or a gap between the losses, is no overfitting.
    """
    seen = facts(run)
    found = rise_from_lowest(seen.evals)
    if found is None:
        return
    at, low, last = found
    noise = seen.evals.noise if len(seen.evals) >= 10 else 0.0
    rise = max(rise, 0.1) if len(seen.evals) < 6 else rise
    scale = max(abs(low), 0.02 * abs(seen.evals.first), 1e-12)
    if last - low <= rise * scale or last - low <= sigmas * noise or _training_rises(seen, at):
        return
    at = int(np.argmin(seen.evals.value))  # the checkpoint to keep is that of the lowest eval itself
    low = float(seen.evals.value[at])
    evidence = {"lowest": low, "lowest_step": float(seen.evals.step[at]), "last": last, "rise": (last - low) / scale}
    if len(seen.train):
        evidence["train_at_lowest"] = float(np.interp(seen.evals.step[at], seen.train.step, seen.train.smooth))
        evidence["train_last"] = seen.train.last
    severity: Severity = "error" if evidence["rise"] > 0.25 else "warning"
    where = int(seen.evals.step[at]), int(seen.evals.step[-1])
    sure = 0.95 if len(seen.train) and len(seen.evals) >= 5 else 0.75
    yield Finding("overfit", severity, "eval_loss", *where, evidence, sure, OVERFIT)


def rise_from_lowest(evals: Series) -> tuple[int, float, float] | None:
    """Return where a smoothed eval loss is lowest, that level, and the level at the end; None under three evals.

    From 20 evals on both are medians of five; from 6 on the lower of the last two is the end, so that one bad eval is
    none.
    """
    count = len(evals)
    if count < 3:
        return None
    smooth = running_median(evals.value, 5) if count >= 20 else evals.value
    last = np.median(evals.value[-5:]) if count >= 20 else np.min(evals.value[-2:]) if count >= 6 else evals.value[-1]
    at = int(np.argmin(smooth))
    return at, float(smooth[at]), float(last)


def _training_rises(seen: Facts, at: int) -> bool:
    """Whether the training loss, too, is higher at the end than where the eval loss was lowest."""
    if len(seen.train) < 2:
        return False
    then = float(np.interp(seen.evals.step[at], seen.train.step, seen.train.smooth))
    return seen.train.last > then + max(0.02 * abs(then), seen.train.noise)


def train_val_gap(run: Run, *, ratio: float = 2.0) -> Iterator[Finding]:
    """Find an eval loss that ends at `ratio` times the training loss without having risen.

    The training loss is often measured with dropout and before the update, the eval loss without and after: a gap by
    itself is a fact, not a fault.
    """
    seen = facts(run)
    found = rise_from_lowest(seen.evals)
    if found is None or len(seen.train) < 3 or found_by(overfit, run):
        return
    low, last = found[1:]
    if seen.train.last <= 0 or last < ratio * seen.train.last or last > 1.2 * low:
        return
    evidence = {"eval": last, "train": seen.train.last, "ratio": last / seen.train.last}
    where = int(seen.evals.step[found[0]]), int(seen.evals.step[-1])
    yield Finding("train_val_gap", "info", "eval_loss", *where, evidence, 0.8, PLAYBOOK)


def epoch_staircase(run: Run, *, share: float = 0.5, sigmas: float = 4.0) -> Iterator[Finding]:
    """Find a training loss that falls in steps: at the starts of epochs, or once without the learning rate.

    The drops make up `share` of the fall since the first epoch, each beyond `sigmas` standard errors. What the model
    sees again it has begun to remember.
    """
    seen = facts(run)
    edges = _epoch_edges(seen)
    drops = _drops(seen.train, edges, sigmas)
    if len(drops) >= 2 or (len(drops) == 1 and len(edges) == 1):
        after_first = seen.train.value[edges[0] - _width(seen.train, edges) : edges[0]]
        fall = float(np.median(after_first)) - seen.train.last
        total = sum(drop for _, drop in drops)
        if total >= share * fall > 0:
            evidence = {"epochs": float(len(drops)), "mean_drop": total / len(drops), "share": min(1.0, total / fall)}
            where = int(seen.train.step[drops[0][0]]), int(seen.train.step[drops[-1][0]])
            yield Finding("epoch_staircase", "info", "loss", *where, evidence, 0.8, STAIRS)
    elif not edges:
        yield from _single_step(seen)


def _epoch_edges(seen: Facts) -> list[int]:
    """Return the indexes of the training points at which a new epoch begins."""
    if len(seen.epoch) < 2 or len(seen.train) < 2:
        return []
    if len(seen.epoch) == len(seen.train.raw) == len(seen.train):
        epoch = seen.epoch.value
    else:
        epoch = np.interp(seen.train.step, seen.epoch.step, seen.epoch.value)
    return (np.flatnonzero(np.diff(np.floor(np.maximum(epoch - 1e-6, 0))) > 0) + 1).tolist()


def _width(train: Series, edges: list[int]) -> int:
    gaps = np.diff([0, *edges, len(train)])
    return int(max(1, min(50, np.min(gaps) // 3)))


def _drops(train: Series, edges: list[int], sigmas: float) -> list[tuple[int, float]]:
    """Return (index, drop) of the edges at which the level falls at once, beyond its standard error."""
    if not edges:
        return []
    width, out = _width(train, edges), []
    if width < 5:
        return []
    for edge in edges:
        before, after = train.value[edge - width : edge], train.value[edge : edge + width]
        if len(before) < width or len(after) < width:
            continue
        error = np.sqrt((before.var() + after.var()) / width)
        drop = float(before.mean() - after.mean())
        if drop > sigmas * error:
            out.append((edge, drop))
    return out


def _single_step(seen: Facts, part: float = 0.12, sigmas: float = 8.0) -> Iterator[Finding]:
    """Find one fall at once, of `part` of the level, after the first tenth, that no cut of the rate explains."""
    train = seen.train.reduced(1000)
    width = len(train) // 20
    if width < 8:
        return
    view = np.lib.stride_tricks.sliding_window_view(train.value, width)
    level = np.median(view, axis=1)
    drop = level[:-width] - level[width:]
    drop[: len(train) // 10] = 0
    at = int(np.argmax(drop)) + width
    before, after = train.value[at - width : at], train.value[at : at + width]
    noise = max(spread(before), spread(after))
    steep = abs(float(np.median(before[: width // 2]) - np.median(before[width // 2 :]))) < 0.2 * drop[at - width]
    if (
        drop[at - width] < max(part * level[at - width], sigmas * noise)
        or not steep
        or _rate_was_cut(seen, train, at, width)
    ):
        return
    evidence = {"epochs": 1.0, "mean_drop": float(drop[at - width]), "share": 1.0}
    yield Finding(
        "epoch_staircase", "info", "loss", int(train.step[at]), int(train.step[at]), evidence, 0.5, STAIRS, "once"
    )


def _rate_was_cut(seen: Facts, train: Series, at: int, width: int) -> bool:
    rate: Floats | None = seen.lr_at(train)
    return rate is not None and bool(rate[min(at + width, len(rate) - 1)] < 0.8 * rate[max(0, at - width)])


def suspiciously_low(run: Run, *, nothing: float = 0.05, entropy: float = 0.6, words: float = 4.0) -> Iterator[Finding]:
    """Find losses that are too good: the eval loss near zero at the first eval, or far below what text holds.

    "leak": the first or second eval is below `nothing`, or the training loss is and the eval loss with it. "entropy": a
    loss that began at `words` nats or more, so among many tokens, ends below `entropy` nats, on the eval set as well as
    on the training set, or with no eval set to deny it; not where the loss is said to be of anything but tokens. The
    target may be in the input, or the eval text in the training text.
    """
    seen = facts(run)
    # contrastive: to find a text among a few others may be easy, and cost nothing
    if "eval_uniformity" in run.curves or seen.unit.endswith(" pair") or not seen.in_nats:
        return
    evals, train = seen.evals, seen.train
    learned = max(np.max(train.value[:3], initial=0.0), evals.value[0] if len(evals) else 0.0) > 2 * nothing
    if len(evals) >= 2 and learned and 0 <= evals.value[1] < 2 * nothing and evals.last < nothing:
        evidence = {"eval": evals.last, "first_eval": float(evals.value[0])}
        where = int(evals.step[0]), int(evals.step[-1])
        yield Finding("suspiciously_low", "warning", "eval_loss", *where, evidence, 0.6, SHANNON, "leak")
        return
    began = max(train.value[0] if len(train) else 0.0, evals.value[0] if len(evals) else 0.0)
    if began < words or not len(train) or not seen.of_tokens:
        return
    honest = evals.last <= min(entropy, 1.1 * train.last) if len(evals) else train.last < entropy / 2
    if honest:
        evidence = {"train": train.last, "first": float(began)}
        if len(evals):
            evidence["eval"] = evals.last
        where = int(train.step[0]), int(train.step[-1])
        severity: Severity = "warning" if _of_text(run) else "info"  # a regression may come down as far
        yield Finding("suspiciously_low", severity, "loss", *where, evidence, 0.6, SHANNON, "entropy")


def _of_text(run: Run) -> bool:
    """Whether the log says that its loss is of tokens."""
    names = {"eval_perplexity", "eval_bpb", "perplexity", "ppl", "bpb", "tokens", "tokens_per_second"}
    return "vocab_size" in run.config or "gpt" in run.tool.lower() or bool(names & run.curves.keys())
