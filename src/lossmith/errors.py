"""Every error a user can meet: what was expected, what was got, what to do."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class LossmithError(Exception):
    """Root of all errors of lossmith; the command line prints it without a traceback and exits with `exit_code`."""

    exit_code = 1


class InputError(LossmithError, ValueError):
    """The call was wrong: an option, a name or a combination that cannot work (exit code 2).

    >>> raise InputError("--optim must be one of adamw, muon; got 'adam2'")
    Traceback (most recent call last):
    lossmith.errors.InputError: --optim must be one of adamw, muon; got 'adam2'
    """

    exit_code = 2


class DataError(InputError):
    """A file given by the user is missing, empty, undecodable or not what its name promises (exit code 2)."""


class MissingPackageError(InputError, ImportError):
    """A package that a feature needs is not installed; the message says how to install it (exit code 2)."""


class RunError(LossmithError, RuntimeError):
    """The call was right and the run failed (exit code 1)."""


class NonFiniteError(RunError):
    """A loss or a gradient became NaN or infinite; training stopped before the optimizer used it (exit code 1)."""


NAN_LOGITS = "the model's logits are NaN: its weights are broken; take an earlier checkpoint"


def did_you_mean(name: str, choices: Iterable[str]) -> str:
    """Return `" Did you mean 'x'?"` for the choice nearest to `name`, or nothing when none is near.

    >>> did_you_mean("shakespear", ["shakespeare", "bible"])
    " Did you mean 'shakespeare'?"
    >>> did_you_mean("zzz", ["shakespeare"])
    ''
    """
    near = difflib.get_close_matches(name, list(choices), n=1)
    return f" Did you mean {near[0]!r}?" if near else ""
