"""Progress of long work, on rank 0 only: a live bar in a terminal, a line now and then elsewhere."""

from __future__ import annotations

import time
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

__all__ = ["TrainingProgress"]

_LINE_SECONDS = 15.0


class TrainingProgress:
    """Steps done, figures of the last step, and the time left.

    console: where to show it; None shows nothing (all ranks but the first).
    """

    def __init__(self, console: Console | None, title: str, total: int, done: int = 0) -> None:
        self.console, self.title, self.total, self.done = console, title, total, done
        self._first_step = done
        self._started = self._last_line = time.monotonic()
        self._bar: Progress | None = None
        if console is not None and console.is_terminal:
            self._bar = Progress(
                TextColumn("{task.description}"),
                BarColumn(bar_width=20),
                MofNCompleteColumn(),
                TextColumn("{task.fields[figures]}"),
                TimeRemainingColumn(),
                console=console,
            )
            self._task = self._bar.add_task(title, total=total, completed=done, figures="")

    def __enter__(self) -> TrainingProgress:
        if self._bar:
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar:
            self._bar.stop()

    def update(self, figures: str) -> None:
        """One more step is done."""
        self.done += 1
        if self._bar:
            self._bar.update(self._task, completed=self.done, figures=figures)
        elif self.console is not None:
            now = time.monotonic()
            if self.done == self.total or now - self._last_line >= _LINE_SECONDS:
                self._last_line = now
                self.console.print(f"{self.title} {self.done}/{self.total}  {figures}  {self._left(now)} left")

    def _left(self, now: float) -> str:
        per_step = (now - self._started) / (self.done - self._first_step)
        seconds = round(per_step * (self.total - self.done))
        return f"{seconds // 60}:{seconds % 60:02d}"
