"""The options in front of a `%%parallel` header, and the error that points into the line. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec

from lambdakernel.errors import LambdaKernelError
from lambdakernel.parallel.again import CHOICES
from lambdakernel.parallel.each import EXAMPLE, Grid, expression_at, read_grid
from lambdakernel.parallel.memory import read_size


class Options(msgspec.Struct, frozen=True):
    """What the user said about how the tasks run; None where nothing was said."""

    workers: int | None = None
    timeout_s: float | None = None
    times: int | None = None
    retries: int = 0
    """Attempts at one task beyond the first."""
    retry_errors: bool = False
    """A body that raises is tried again too, not only one whose process was lost."""
    again: str = "auto"
    """Whether a task that is late runs a second time beside itself; `auto`: if its body has no effect outside."""
    memory_nbytes: int | None = None
    """What a task's body may allocate."""
    each: Grid = ()
    """Names that tasks have beside those of the loop, and the source of what each takes: one task a combination."""
    keep_going: bool = False
    background: bool = False


class HeaderError(LambdaKernelError):
    """A first line that cannot be read; the message points at the place and says what to write."""

    def __init__(self, text: str, column: int, what: str, remedy: str, magic: str = "%%parallel") -> None:
        pointer = f"{magic} {text}\n{' ' * (len(magic) + 1 + column)}^\n"
        super().__init__(f"{what}\n{pointer}{remedy}")
        self.column, self.what, self.remedy = column, what, remedy

    def of_line(self, text: str) -> HeaderError:
        """The same of a line `%parallel text`, of which this header is the beginning."""
        return HeaderError(text, self.column, self.what, self.remedy, "%parallel")


class Span(msgspec.Struct, frozen=True):
    """A piece of the line, and where it starts."""

    text: str
    column: int


def read_options(text: str, magic: str = "%%parallel", known: Sequence[str] = ()) -> tuple[Options, int]:
    """The options in front of `text`, and where the rest starts. `known` are those that `magic` has; all if empty.

    Raises:
        HeaderError: one does not exist, or its value does not fit.
    """
    reader = _Reader(text, magic, known or option_names())
    while True:
        word = reader.word()
        if not word.text.startswith("--"):
            return _checked(reader), word.column
        _read_option(reader, word)


def _checked(reader: _Reader) -> Options:
    said: dict[str, object] = dict(reader.found)
    options = Options(**said)  # type: ignore[arg-type]
    if options.retry_errors and not options.retries:
        column = reader.text.index("--retry-errors")
        raise reader.error(column, "--retry-errors does nothing without --retries.", "Write for example `--retries 2`.")
    return options


def _from_one(text: str) -> int:
    value = int(text)
    if value < 1:
        raise ValueError(text)
    return value


def _from_zero(text: str) -> int:
    value = int(text)
    if value < 0:
        raise ValueError(text)
    return value


def _seconds(text: str) -> float:
    value = float(text)
    if not 0 < value < float("inf"):
        raise ValueError(text)
    return value


def _again(text: str) -> str:
    if text not in CHOICES:
        raise ValueError(text)
    return text


class _Option(msgspec.Struct, frozen=True):
    field: str
    help: str
    fits: str = ""
    read: Callable[[str], int | float | str | Grid] | None = None
    example: str = "4"
    is_expression: bool = False
    """Its value is one of Python, with spaces in its brackets."""


_OPTIONS = {
    "--workers": _Option("workers", "--workers N (most tasks at a time)", "a whole number from 1", _from_one),
    "--timeout": _Option("timeout_s", "--timeout S (seconds a task may take)", "seconds above 0", _seconds),
    "--times": _Option("times", "--times N (without `for`: run the body N times)", "a whole number from 1", _from_one),
    "--each": _Option(
        "each",
        "--each dict(NAME=VALUES, ...) (one task for each combination)",
        "`dict` with names and lists",
        read_grid,
        EXAMPLE,
        is_expression=True,
    ),
    "--retries": _Option(
        "retries", "--retries N (a task whose process is lost runs again)", "a whole number from 0", _from_zero
    ),
    "--retry-errors": _Option("retry_errors", "--retry-errors (with --retries: also a task whose body raises)"),
    "--again": _Option(
        "again",
        "--again auto (a slow task runs twice: yes, no, or if its body does nothing outside)",
        "auto, yes or no",
        _again,
        "no",
    ),
    "--memory": _Option(
        "memory_nbytes", "--memory SIZE (what a task may allocate)", "a size from 1 MB", read_size, "500MB"
    ),
    "--background": _Option("background", "--background (the cell returns at once, names are bound when all is done)"),
    "--keep-going": _Option("keep_going", "--keep-going (failed tasks raise nothing; TaskFailed is in their place)"),
}


def option_names() -> tuple[str, ...]:
    """All that `%%parallel` has."""
    return tuple(_OPTIONS)


class _Reader(msgspec.Struct):
    text: str
    magic: str
    known: Sequence[str]
    at: int = 0
    found: dict[str, int | float | str | bool | Grid] = msgspec.field(default_factory=dict)

    def word(self) -> Span:
        """The next word, up to white space; empty at the end."""
        while self.at < len(self.text) and self.text[self.at].isspace():
            self.at += 1
        start = self.at
        while self.at < len(self.text) and not self.text[self.at].isspace():
            self.at += 1
        return Span(self.text[start : self.at], start)

    def expression(self, at: int) -> Span:
        """The expression that begins at or after `at`."""
        self.at = at + len(self.text[at:]) - len(self.text[at:].lstrip())
        start = self.at
        try:
            self.at = expression_at(self.text, start)
        except ValueError as e:
            raise self.error(start, f"this is not complete: {e}.", f"Write for example `{EXAMPLE}`.") from None
        return Span(self.text[start : self.at], start)

    def error(self, column: int, what: str, remedy: str) -> HeaderError:
        return HeaderError(self.text, column, what, remedy, self.magic)


def _read_option(reader: _Reader, word: Span) -> None:
    name, equals, value = word.text.partition("=")
    option = _OPTIONS.get(name)
    if option is None or name not in reader.known:
        known = "Options: " + "; ".join(_OPTIONS[name].help for name in reader.known) + "."
        raise reader.error(word.column, f"there is no option {name}.", known)
    if option.read is None:
        if equals:
            raise reader.error(word.column, f"{name} takes no value.", f"Write {name} alone.")
        reader.found[option.field] = True
        return
    if option.is_expression:
        given = reader.expression(word.column + len(name) + len(equals))
    else:
        given = Span(value, word.column + len(name) + 1) if equals else reader.word()
    try:
        reader.found[option.field] = option.read(given.text)
    except (ValueError, OverflowError):
        what = f"{name} takes {option.fits}, not {given.text!r}."
        raise reader.error(given.column, what, f"Write for example `{name} {option.example}`.") from None
