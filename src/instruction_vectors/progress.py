"""Progress on standard error: a live bar with rate and time left on a terminal, a line now and then elsewhere."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

_QUIET_SECONDS = 20.0
"""Off a terminal, a running job speaks at most this often."""


def console() -> Console:
    """Standard error; results go to standard output."""
    return Console(stderr=True, highlight=False)


def duration(seconds: float) -> str:
    """A time in words, to two units at most: `95 s`, `12 min`, `2 h 05 min`."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes:02} min" if hours else f"{minutes} min"


@contextmanager
def track(description: str, total: int, unit: str = "it") -> Iterator[Callable[[int], None]]:
    """Show progress for the length of a `with` block; call the yielded function with how many of `total` are done."""
    if sys.stderr.isatty():
        with _live(description, total, unit) as advance:
            yield advance
    else:
        with _lines(description, total, unit) as advance:
            yield advance


@contextmanager
def _live(description: str, total: int, unit: str) -> Iterator[Callable[[int], None]]:
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TaskProgressColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(elapsed_when_finished=False),
    )
    with Progress(*columns, console=console(), refresh_per_second=4) as progress:
        bar = progress.add_task(description, total=total, rate="")
        start = time.monotonic()

        def advance(done: int) -> None:
            progress.update(bar, completed=done, rate=_rate(done, time.monotonic() - start, unit))

        yield advance
        advance(total)


@contextmanager
def _lines(description: str, total: int, unit: str) -> Iterator[Callable[[int], None]]:
    start = spoke = time.monotonic()
    say = partial(console().print, markup=False, soft_wrap=True)

    def advance(done: int) -> None:
        nonlocal spoke
        now = time.monotonic()
        if now - spoke >= _QUIET_SECONDS and done:
            spoke = now
            left = duration((now - start) / done * (total - done))
            say(f"{description}: {done}/{total}, {_rate(done, now - start, unit)}, about {left} left")

    yield advance
    if (seconds := time.monotonic() - start) >= _QUIET_SECONDS:
        say(f"{description}: {total}/{total} in {duration(seconds)} ({_rate(total, seconds, unit)})")


def _rate(done: int, seconds: float, unit: str) -> str:
    """Units a second, or seconds a unit where that is the larger number."""
    if seconds <= 0 or not done:
        return ""
    return f"{done / seconds:.1f} {unit}/s" if done >= seconds else f"{seconds / done:.1f} s/{unit}"
