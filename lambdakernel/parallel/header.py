"""The first line of a `%%parallel` cell, as a value. Pure: text in, a frozen `Header` out.

    [options] [for TARGET in ITERABLE [if COND] [for ...]] [-> NAME[, NAME...]]

The loop is Python's own comprehension syntax, so Python's own parser reads it. The arrow is found by Python's
tokenizer, so that one inside a string or brackets is left alone.
"""

from __future__ import annotations

import ast
import io
import keyword
import tokenize
from collections.abc import Callable

import msgspec

from lambdakernel.errors import LambdaKernelError

USAGE = "%%parallel [options] [for TARGET in ITERABLE [if COND]] [-> NAME, ...]"
_PROBE = "[__ "
"""What stands before the loop when it is parsed; its length is taken off the columns of errors."""


class Options(msgspec.Struct, frozen=True):
    """What the user said about how the tasks run; None where nothing was said."""

    workers: int | None = None
    timeout_s: float | None = None
    times: int | None = None
    keep_going: bool = False


class Header(msgspec.Struct, frozen=True):
    """One parsed line."""

    options: Options
    loop: str
    """`for i in range(3) if i` as written; empty when the body runs a number of times."""
    target: str
    """What each item is assigned to in its task, as source: `i`, `(i, (a, b))`; empty without a loop."""
    bound: tuple[str, ...]
    """The names in `target`, in order."""
    names: tuple[str, ...]
    """The names after the arrow."""

    @property
    def items_source(self) -> str:
        """An expression whose value is the list of items; each fits `target`."""
        return f"[{self.target} {self.loop}]"


class HeaderError(LambdaKernelError):
    """A first line that cannot be read; the message points at the place and says what to write."""

    def __init__(self, text: str, column: int, what: str, remedy: str) -> None:
        pointer = f"%%parallel {text}\n{' ' * (len('%%parallel ') + column)}^\n"
        super().__init__(f"{what}\n{pointer}{remedy}")
        self.column = column


def parse_header(text: str) -> Header:
    """The header that `text`, what follows `%%parallel`, says.

    Raises:
        HeaderError: it says none; nothing ran.
    """
    options, start = _options(text)
    end, arrow = _arrow(text, start)
    names = () if arrow is None else _names(text, arrow + 2, end)
    loop = _trimmed(text, start, end if arrow is None else arrow)
    if not loop.text:
        return Header(options, "", "", (), names)
    if options.times is not None:
        raise HeaderError(text, loop.column, "--times goes without `for`.", "Write one of the two.")
    target, bound = _target(text, loop)
    return Header(options, loop.text, target, bound, names)


class _Span(msgspec.Struct, frozen=True):
    text: str
    column: int


def _trimmed(text: str, start: int, end: int) -> _Span:
    part = text[start:end]
    return _Span(part.strip(), start + len(part) - len(part.lstrip()))


# -- options


def _whole(text: str) -> int:
    value = int(text)
    if value < 1:
        raise ValueError(text)
    return value


def _seconds(text: str) -> float:
    value = float(text)
    if not 0 < value < float("inf"):
        raise ValueError(text)
    return value


class _Option(msgspec.Struct, frozen=True):
    field: str
    help: str
    fits: str = ""
    read: Callable[[str], int | float] | None = None


_OPTIONS = {
    "--workers": _Option("workers", "--workers N (most tasks at a time)", "a whole number from 1", _whole),
    "--timeout": _Option("timeout_s", "--timeout S (seconds a task may take)", "seconds above 0", _seconds),
    "--times": _Option("times", "--times N (without `for`: run the body N times)", "a whole number from 1", _whole),
    "--keep-going": _Option("keep_going", "--keep-going (failed tasks raise nothing; TaskFailed is in their place)"),
}
_NOT_YET = {"--retries": "A task that failed is not run again: its outside effects would happen twice."}


class _Reader(msgspec.Struct):
    text: str
    at: int = 0
    found: dict[str, int | float | bool] = msgspec.field(default_factory=dict)

    def word(self) -> _Span:
        """The next word, up to white space; empty at the end."""
        while self.at < len(self.text) and self.text[self.at].isspace():
            self.at += 1
        start = self.at
        while self.at < len(self.text) and not self.text[self.at].isspace():
            self.at += 1
        return _Span(self.text[start : self.at], start)


def _options(text: str) -> tuple[Options, int]:
    """The options in front, and where the rest starts."""
    reader = _Reader(text)
    while True:
        word = reader.word()
        if not word.text.startswith("--"):
            said: dict[str, object] = dict(reader.found)
            return Options(**said), word.column  # type: ignore[arg-type]
        _read_option(reader, word)


def _read_option(reader: _Reader, word: _Span) -> None:
    name, equals, value = word.text.partition("=")
    option = _OPTIONS.get(name)
    if option is None:
        raise _unknown(reader.text, name, word.column)
    if option.read is None:
        if equals:
            raise HeaderError(reader.text, word.column, f"{name} takes no value.", f"Write {name} alone.")
        reader.found[option.field] = True
        return
    given = _Span(value, word.column + len(name) + 1) if equals else reader.word()
    try:
        reader.found[option.field] = option.read(given.text)
    except (ValueError, OverflowError):
        what = f"{name} takes {option.fits}, not {given.text!r}."
        raise HeaderError(reader.text, given.column, what, f"Write for example `{name} 4`.") from None


def _unknown(text: str, name: str, column: int) -> HeaderError:
    known = "Options: " + "; ".join(option.help for option in _OPTIONS.values()) + "."
    if name in _NOT_YET:
        return HeaderError(text, column, f"{name} does not exist yet. {_NOT_YET[name]}", f"Leave it out. {known}")
    return HeaderError(text, column, f"there is no option {name}.", known)


# -- the arrow and what follows


def _arrow(text: str, start: int) -> tuple[int, int | None]:
    """Where the header ends (before a comment), and the column of its arrow, if it has one."""
    arrows, depth, end = [], 0, len(text)
    try:
        for token in tokenize.generate_tokens(io.StringIO(text[start:]).readline):
            if token.type == tokenize.COMMENT:
                end = start + token.start[1]
            elif token.type == tokenize.OP:
                depth += (token.string in "([{") - (token.string in ")]}")
                if token.string == "->" and depth == 0:
                    arrows.append(start + token.start[1])
    except (tokenize.TokenError, SyntaxError) as e:
        raise HeaderError(text, start, f"this line is not complete: {e.args[0]}.", f"Write: {USAGE}") from None
    if len(arrows) > 1:
        raise HeaderError(text, arrows[1], "there is more than one arrow.", "Write all names after one `->`.")
    return end, arrows[0] if arrows else None


def _names(text: str, start: int, end: int) -> tuple[str, ...]:
    names: list[str] = []
    for part in text[start:end].split(","):
        name = _trimmed(text, start, start + len(part))
        start += len(part) + 1
        if not name.text.isidentifier() or keyword.iskeyword(name.text):
            what = f"after `->` stands {name.text!r}, which is no variable name."
            raise HeaderError(text, name.column, what, "Write names with commas between them: `-> model, score`.")
        if name.text in names:
            raise HeaderError(text, name.column, f"{name.text!r} is named twice.", "Name it once.")
        names.append(name.text)
    return tuple(names)


# -- the loop


def _target(text: str, loop: _Span) -> tuple[str, tuple[str, ...]]:
    """The target of the loop as source, and the names in it."""
    tree = _parsed(text, loop)
    targets = [g.target for g in tree.generators]
    for generator in tree.generators:
        if generator.is_async:
            raise HeaderError(text, loop.column, "`async for` cannot be fanned out.", "Make a list of it first.")
    bound = [name for target in targets for name in _bound(text, loop, target)]
    sources = [ast.unparse(target) for target in targets]
    source = sources[0] if len(sources) == 1 else f"({', '.join(sources)})"
    return source, tuple(dict.fromkeys(bound))


def _parsed(text: str, loop: _Span) -> ast.ListComp:
    remedy = "Write it as in a comprehension: `for i in range(10)`, `for a in x for b in y if a < b`."
    try:
        tree = ast.parse(f"{_PROBE}{loop.text}\n]", mode="eval").body
    except SyntaxError as e:
        column = loop.column + max(0, min((e.offset or 1) - 1 - len(_PROBE), len(loop.text)))
        raise HeaderError(text, column, f"this is no loop: {e.msg}.", remedy) from None
    except (ValueError, MemoryError, RecursionError) as e:  # a null character; nesting without end
        raise HeaderError(text, loop.column, f"this is no loop: {e or type(e).__name__}.", remedy) from None
    if not isinstance(tree, ast.ListComp) or not isinstance(tree.elt, ast.Name) or tree.elt.id != "__":
        raise HeaderError(text, loop.column, "this is no loop.", remedy)
    return tree


def _bound(text: str, loop: _Span, target: ast.expr) -> list[str]:
    match target:
        case ast.Name(id=name):
            return [name]
        case ast.Tuple(elts=parts) | ast.List(elts=parts):
            return [name for part in parts for name in _bound(text, loop, part)]
        case ast.Starred(value=value):
            return _bound(text, loop, value)
    what = f"`{ast.unparse(target)}` cannot take the items: a task binds names of its own."
    raise HeaderError(text, loop.column, what, "Write a name or several: `for i in ...`, `for a, b in ...`.")
