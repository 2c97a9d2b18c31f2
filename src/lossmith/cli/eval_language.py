"""lossmith eval of a causal model on text: its figures, what they are worth, and the comparison with another model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from lossmith.errors import DataError

if TYPE_CHECKING:
    from lossmith.cli.eval import Args
    from lossmith.evaluate.bootstrap import Resampling
    from lossmith.evaluate.language import Text
    from lossmith.evaluate.opening import CausalModel
    from lossmith.evaluate.outcome import Outcome


def language(args: Args, how: Resampling) -> Outcome:
    """Score the text, compress it, compare, and say where the run was trained on it."""
    from lossmith.evaluate.language import compare_language, language_outcome, opened_text, score
    from lossmith.evaluate.opening import open_causal
    from lossmith.models.folder import find_model

    size = args.per_device_eval_batch_size
    given = open_causal(find_model(Path(args.inputs[0])), args.tokenizer, args.context_length)
    with opened_text(args.inputs[1:], args.text_field, args.encoding, args.max_examples) as text:
        scores = score(given, text, stride=args.stride, batch_size=size)
        outcome = language_outcome(given, text, scores, how, stride=args.stride)
        if args.compare is not None:
            other = open_causal(find_model(args.compare), context=args.context_length)
            compare_language(outcome, scores, score(other, text, stride=args.stride, batch_size=size), how)
        if args.rivals:
            _rivals(args, given, text, outcome)
    _trained_on(args, outcome)
    return outcome


def _rivals(args: Args, given: CausalModel, text: Text, outcome: Outcome) -> None:
    from lossmith.cli.compress import bar
    from lossmith.data.encoding import first_bytes
    from lossmith.evaluate.training_text import given_text, training_text
    from lossmith.evaluate.worth import COMPRESS_AT_MOST, add_worth

    known = given_text(args.given, args.text_field, args.encoding) if args.given else training_text(Path(given.name))
    with bar("compressors (--no-rivals leaves them out)", args.json) as progress:
        add_worth(outcome, given, first_bytes(text.path, text.part, COMPRESS_AT_MOST), known, progress)


def _trained_on(args: Args, outcome: Outcome) -> None:
    """Say so where a run is evaluated on the inputs it was trained on."""
    record = Path(args.inputs[0]) / "run.json"
    if not record.is_file():
        return
    try:
        trained = json.loads(record.read_text(encoding="utf-8"))["config"]["inputs"]
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"{record} is no record of a run: {error}. Give the model/ folder instead") from error
    known = {str(name) for name in trained} | {str(Path(name).absolute()) for name in trained}
    seen = [name for name in args.inputs[1:] if name != "-" and {name, str(Path(name).absolute())} & known]
    if seen:
        outcome.notes.append(
            f"{', '.join(seen)} is what this run was trained on (but for its validation part): these figures are not "
            "held out; the run's report has those of the validation part"
        )
