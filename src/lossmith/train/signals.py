"""Ctrl-C and SIGTERM ask the loop to finish its step; outside it, and the second time, they interrupt."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class StopRequest:
    """Hold the name of the signal that asked the run to stop; empty until then."""

    def __init__(self) -> None:
        self.requested = ""
        self._deferring = False

    @contextmanager
    def heard(self) -> Iterator[StopRequest]:
        """Turn SIGTERM into KeyboardInterrupt, as SIGINT is; outside the main thread change nothing."""
        if threading.current_thread() is not threading.main_thread():
            yield self
            return
        before = {number: signal.signal(number, self._note) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield self
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    @contextmanager
    def deferred(self) -> Iterator[None]:
        """Inside, the first signal only sets `requested`: the step is finished and saved."""
        self._deferring = True
        try:
            yield
        finally:
            self._deferring = False

    def _note(self, number: int, frame: FrameType | None) -> None:
        if not self._deferring or self.requested:
            raise KeyboardInterrupt(signal.Signals(number).name)
        self.requested = signal.Signals(number).name
