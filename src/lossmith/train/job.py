"""What a run is about: the seam in which `lossmith train` and `lossmith finetune` differ."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lossmith.train.loop import Loop
    from lossmith.train.opening import Opening
    from lossmith.train.scale import Scale
    from lossmith.train.session import Session


class Job:
    """Open a run, make its loop, and say what its numbers are measured by; the session does everything else."""

    command = "train"
    """The command that continues such a run."""

    def open(self) -> Opening:
        """Return folder, options and record (first rank only; the others are told)."""
        raise NotImplementedError

    def loop(self, session: Session) -> Loop:
        """Open the data, make model and objective, record them, and return the loop."""
        raise NotImplementedError

    def scale(self, loop: Loop) -> Scale:
        """Return what the loss is measured in and beside."""
        raise NotImplementedError

    def about(self, loop: Loop) -> dict[str, Any]:
        """Return fields of run.json that are known after training (first rank only)."""
        raise NotImplementedError

    def ended(self, loop: Any) -> dict[str, Any]:
        """Return further fields of run.json of a run that came to its end (first rank only)."""
        return {}

    def summary(self, record: dict[str, Any]) -> dict[str, Any]:
        """Return what of run.json the last screen needs beside the result."""
        return {
            "baselines": record["baselines"],
            "example": record["example"],
            "objective": str(record["config"]["objective"]),
            "unit": record["unit"],
        }
