"""The sentences and tables that the Markdown and the HTML report share."""

from __future__ import annotations

import shlex
from typing import Any

from lossmith.evaluate._facts import Facts, Headline
from lossmith.pictures.text import clean, duration, fixed, number, size

STATUS = {
    "stopped": "This run was stopped before its end.",
    "failed": "This run failed.",
    "running": "This run has not ended yet.",
}


def cards(best: Headline) -> list[tuple[str, str, str]]:
    """Return (figure, unit, what it is) of the headline."""
    if best.unit != "token":
        told = f"the loss: average −ln p of a {best.unit}'s own partner among all that it is compared with"
        hard = "e^loss: as hard as finding one among so many"
        return [(fixed(best.loss), f"nats per {best.unit}", told), (number(best.perplexity), "perplexity", hard)]
    hard = "as hard as guessing among so many tokens"
    if len(best.terms) > 1:
        first = next(iter(best.terms))
        parts = [(fixed(value), "nats", f"{name}: its average over what it asks") for name, value in best.terms.items()]
        summed = (fixed(best.loss), "nats", "the loss: the weighted sum of its terms")
        return [summed, *parts, (number(best.perplexity), "perplexity", f"e^({first}): {hard}")]
    bits = (fixed(best.bits_per_byte), "bits per byte", "comparable between all models and compressors")
    return [
        *([] if best.bits_per_byte is None else [bits]),
        (fixed(best.loss), "nats per token", "the loss: average −ln p of the validation tokens that it asks"),
        (number(best.perplexity), "perplexity", f"e^loss: {hard}"),
    ]


def measured_on(best: Headline) -> str:
    """Say on what the headline was measured."""
    said = "Measured on the validation text, which the model was not trained on"
    if best.tokens:
        said += f": {number(best.tokens)} {best.unit}s"
    if best.tokens and best.bytes:
        said += f" ({number(best.bytes)} bytes)"
    if not best.final:
        said += f"; this is the last evaluation before the end, at step {number(best.step)}"
    return said + "."


def no_evaluation(facts: Facts) -> str:
    """Say what is known of a run that has never been evaluated."""
    said = "This run has not been evaluated yet."
    loss = facts.last_train_loss
    if loss is not None:
        said += (
            f" Its last training loss, at step {number(facts.last_step)}, is {fixed(loss)} {clean(facts.loss_unit)}."
        )
    return said


def overview(facts: Facts) -> list[str]:
    """Say in a few words each what was trained, on what, and for how long."""
    model, data, result = (facts.info.get(key) or {} for key in ("model", "data", "result"))
    parts = []
    if model.get("parameters"):
        parts.append(f"{clean(str(model.get('name', 'model')))}, {count(model['parameters'])} parameters")
    names = [clean(str(s.get("name", s)) if isinstance(s, dict) else str(s)) for s in data.get("sources") or []]
    if names:
        parts.append("on " + ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else ""))
    if data.get("train_bytes"):
        parts.append(f"{size(data['train_bytes'])} of training text")
    steps = result.get("steps") or facts.last_step
    if steps:
        parts.append(f"{number(steps)} steps")
    if facts.info.get("seconds") is not None:
        parts.append(duration(float(facts.info["seconds"])))
    return parts


def count(value: float) -> str:
    """Return a large count as people say it.

    >>> count(812_000), count(124_439_808)
    ('812k', '124M')
    """
    for unit, name in ((1e9, "B"), (1e6, "M"), (1e3, "k")):
        if value >= unit:
            return f"{value / unit:.3g}{name}"
    return f"{value:.0f}"


def plain(value: Any) -> str:
    """Return an option's or a fact's value as text."""
    if value is None:
        return "—"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, str):
        return clean(value)
    if isinstance(value, (list, tuple)):
        return ", ".join(plain(item) for item in value) or "—"
    if isinstance(value, dict):
        return ", ".join(f"{clean(str(key))}: {plain(item)}" for key, item in value.items()) or "—"
    return repr(value) if isinstance(value, float) else number(value)


def tables(facts: Facts) -> list[tuple[str, list[tuple[str, str]]]]:
    """Return the fact tables: data, model, machine, versions, the run itself; empty ones left out."""
    info = facts.info
    run = {"command": _command(info.get("command")), "created": info.get("created"), "finished": info.get("finished")}
    titles = (
        ("Data", info.get("data")),
        ("Model", info.get("model")),
        ("Machine", info.get("hardware")),
        ("Versions", info.get("versions")),
        ("Run", {**run, "folder": str(facts.folder.resolve())}),
    )
    return [(title, _rows(values)) for title, values in titles if isinstance(values, dict) and values]


def _command(argv: Any) -> str | None:
    return shlex.join(map(str, argv)) if isinstance(argv, list) else argv


def _rows(values: dict[str, Any]) -> list[tuple[str, str]]:
    return [(key.replace("_", " "), plain(value)) for key, value in values.items() if value is not None]


def chosen_samples(samples: list[dict[str, Any]], most: int = 8) -> list[dict[str, Any]]:
    """Return at most `most` samples, evenly spread, the first and the last among them.

    >>> [s["step"] for s in chosen_samples([{"step": i} for i in range(100)], 3)]
    [0, 50, 99]
    """
    if len(samples) <= most:
        return samples
    return [samples[round(i * (len(samples) - 1) / (most - 1))] for i in range(most)]
