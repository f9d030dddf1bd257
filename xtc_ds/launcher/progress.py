"""Show the progress of long work, on rank 0 only: a live bar in a terminal, otherwise a line every 15 seconds."""

from __future__ import annotations

import time
from collections.abc import Iterable
from types import TracebackType

from rich.console import Console, RenderableType
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.text import Text

__all__ = ["TrainingProgress"]

_LINE_SECONDS = 15.0


class _TwoLines(Progress):
    """The bar with a line below it that may be as wide as the terminal."""

    below = ""

    def get_renderables(self) -> Iterable[RenderableType]:
        yield self.make_tasks_table(self.tasks)
        if self.below:
            yield Text(f"  {self.below}")


class TrainingProgress:
    """Steps done, figures of the last step, and the time left.

    console: where to show it; None shows nothing (on all ranks but the first).
    """

    def __init__(self, console: Console | None, title: str, total: int, done: int = 0) -> None:
        self.console, self.title, self.total, self.done = console, title, total, done
        self._first_step = done
        self._started = self._last_line = time.monotonic()
        self._bar: _TwoLines | None = None
        if console is not None and console.is_terminal:
            self._bar = _TwoLines(
                TextColumn("{task.description}"),
                BarColumn(bar_width=16),
                MofNCompleteColumn(),
                TextColumn("{task.fields[pace]}"),
                TimeRemainingColumn(),
                TextColumn("left"),
                console=console,
                refresh_per_second=4,
            )
            self._task = self._bar.add_task(title, total=total, completed=done, pace="")

    def __enter__(self) -> TrainingProgress:
        if self._bar:
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar:
            self._bar.stop()

    def update(self, figures: str, pace: str) -> None:
        """Report one more finished step. figures: losses and bits; pace: learning rate and speed."""
        self.done += 1
        if self._bar:
            self._bar.below = figures
            self._bar.update(self._task, completed=self.done, pace=pace)
        elif self.console is not None:
            now = time.monotonic()
            if self.done == self.total or now - self._last_line >= _LINE_SECONDS:
                self._last_line = now
                line = f"{self.title} {self.done}/{self.total}  {figures}  {pace}  {self._left(now)} left"
                self.console.print(line, soft_wrap=True, highlight=False, markup=False)

    def _left(self, now: float) -> str:
        per_step = (now - self._started) / (self.done - self._first_step)
        minutes, seconds = divmod(round(per_step * (self.total - self.done)), 60)
        hours, minutes = divmod(minutes, 60)
        return f"{hours}:{minutes:02d}:{seconds:02d}"
