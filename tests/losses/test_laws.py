"""Every loss of the table keeps every law, in every dtype and implementation, and says what it is."""

from __future__ import annotations

import dataclasses
import doctest
import inspect
import re
from typing import Any

import pytest
import torch

from lossmith import losses
from lossmith.errors import InputError
from lossmith.losses import LOSSES
from lossmith.testing import DTYPES, LAWS, check_loss

CHECKED = [name for name, spec in LOSSES.items() if spec.reference is not None]  # the others have tests of their own
CASES = [
    pytest.param(name, implementation, dtype, id=f"{name}-{implementation or 'default'}-{str(dtype)[6:]}")
    for name in CHECKED
    for implementation in (None, *LOSSES[name].implementations)
    for dtype in DTYPES
]


@pytest.mark.parametrize(("name", "implementation", "dtype"), CASES)
def test_a_loss_keeps_every_law(name: str, implementation: str | None, dtype: torch.dtype) -> None:
    check_loss(LOSSES[name], implementation, dtypes=[dtype], laws=LAWS)


def test_only_what_owns_tensors_or_combines_losses_goes_without_a_reference() -> None:
    for name in sorted(set(LOSSES) - set(CHECKED)):
        takes = inspect.signature(LOSSES[name].fn).parameters
        assert inspect.isclass(LOSSES[name].fn) or "weights" not in takes, f"{name} takes items: it needs a reference"


@pytest.mark.parametrize("name", LOSSES)
def test_a_loss_is_exported_under_its_name(name: str) -> None:
    assert LOSSES[name].name == name
    exported = LOSSES[name].fn.__name__  # a class is listed under the words of its name
    assert (
        name == "_".join(re.findall("[A-Z][a-z]+", exported)).lower() if inspect.isclass(LOSSES[name].fn) else exported
    )
    assert exported in losses.__all__
    assert getattr(losses, exported) is LOSSES[name].fn


@pytest.mark.parametrize("name", LOSSES)
def test_a_loss_says_what_it_is(name: str) -> None:
    spec = LOSSES[name]
    assert [x for x in ("Formula", "Shapes", "Use", "Avoid", "Source") if not spec.section(x)] == []
    assert re.search(r"https?://|arxiv|doi", spec.source), "the source is a page or a paper that can be found"
    assert spec.summary.endswith("."), "the first paragraph is one sentence"
    assert len(spec.section("Formula")) > 10


@pytest.mark.parametrize("name", LOSSES)
def test_a_loss_shows_a_number_that_is_computed(name: str) -> None:
    assert any(re.search(r"\d", example.want) for example in shown(LOSSES[name].fn)), "no doctest with a number"


def shown(thing: Any) -> list[doctest.Example]:
    return doctest.DocTestParser().get_examples(inspect.getdoc(thing) or "")


def test_these_tests_can_fail() -> None:
    def silent() -> None:
        """Return nothing.

        >>> silent()
        """

    assert not any(re.search(r"\d", example.want) for example in shown(silent))
    assert CASES


def two_items(generator: torch.Generator, dtype: torch.dtype) -> dict[str, Any]:
    return {"inputs": torch.ones(2, dtype=dtype), "targets": torch.zeros(2, dtype=dtype), "weights": torch.ones(2)}


@pytest.mark.parametrize(
    ("change", "options", "words"),
    [
        ({}, {"laws": ["poisn"]}, "laws must be among .* Did you mean 'poison'?"),
        ({}, {"implementation": "referense"}, "got 'referense'. Did you mean 'reference'?"),
        ({"reference": None}, {}, "'mse' must have reference"),
        ({"example": None}, {}, "'mse' must have example"),
        ({"items": ()}, {}, "'mse' must have items"),
        ({"example": two_items}, {"laws": ["poison"]}, "must have 3 items at least; got 2"),
    ],
)
def test_wrong_calls_are_named(change: dict[str, Any], options: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        check_loss(dataclasses.replace(LOSSES["mse"], **change), **options)
