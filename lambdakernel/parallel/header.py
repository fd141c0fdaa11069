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

import msgspec

from lambdakernel.parallel.options import HeaderError, Options, Span, read_options

__all__ = ["Header", "HeaderError", "Options", "parse_header"]

USAGE = "%%parallel [options] [for TARGET in ITERABLE [if COND]] [-> NAME, ...]"
_PROBE = "[__ "
"""What stands before the loop when it is parsed; its length is taken off the columns of errors."""


class Header(msgspec.Struct, frozen=True):
    """One parsed line."""

    options: Options
    loop: str
    """`for i in range(3) if i` as written; empty without one."""
    loop_target: str
    """What the loop's items fit, as source: `i`, `(i, (a, b))`; empty without a loop."""
    bound: tuple[str, ...]
    """The names that a task is given, in order: those of the loop, then those of `--each`."""
    names: tuple[str, ...]
    """The names after the arrow."""

    @property
    def target(self) -> str:
        """What each item is assigned to in its task, as source; empty when the body runs a number of times."""
        parts = [self.loop_target] if self.loop else []
        parts += [name for name, _ in self.options.each]
        return parts[0] if len(parts) == 1 else f"({', '.join(parts)})" if parts else ""

    @property
    def items_source(self) -> str:
        """An expression whose value is the list of the loop's items."""
        return f"[{self.loop_target} {self.loop}]"


def parse_header(text: str) -> Header:
    """The header that `text`, what follows `%%parallel`, says.

    Raises:
        HeaderError: it says none; nothing ran.
    """
    options, start = read_options(text)
    end, arrow = _arrow(text, start)
    names = () if arrow is None else _names(text, arrow + 2, end)
    loop = _trimmed(text, start, end if arrow is None else arrow)
    each = tuple(name for name, _ in options.each)
    if options.times is not None and (loop.text or each):
        raise HeaderError(text, loop.column, "--times goes without `for` and `--each`.", "Write one of them.")
    if not loop.text:
        return Header(options, "", "", each, names)
    target, bound = _target(text, loop)
    if twice := [name for name in each if name in bound]:
        what = f"{twice[0]!r} is bound by the loop and by --each."
        raise HeaderError(text, loop.column, what, "Give one of the two another name.")
    return Header(options, loop.text, target, bound + each, names)


def whole_header(text: str) -> Header:
    """The header that `text`, what follows `%%background`, says: options alone, for one task.

    Raises:
        HeaderError: it says something else.
    """
    options, start = read_options(text, "%%background", FOR_ONE)
    if text[start:].strip():
        what = "%%background takes options and nothing else."
        remedy = "Write loops in the body, or `%%parallel --background for ...`."
        raise HeaderError(text, start, what, remedy, "%%background")
    return Header(msgspec.structs.replace(options, times=1, background=True), "", "", (), ())


FOR_ONE = ("--timeout", "--memory", "--retries", "--retry-errors")
"""Options that mean something for one task."""


def _trimmed(text: str, start: int, end: int) -> Span:
    part = text[start:end]
    return Span(part.strip(), start + len(part) - len(part.lstrip()))


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
    except (tokenize.TokenError, SyntaxError, UnicodeDecodeError) as e:
        what = str(e.args[0])
        if depth > 0 or "string" in what:  # else the loop has a fault, which is told of where it is parsed
            raise HeaderError(text, start, f"this line is not complete: {what}.", f"Write: {USAGE}") from None
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


def _target(text: str, loop: Span) -> tuple[str, tuple[str, ...]]:
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


def _parsed(text: str, loop: Span) -> ast.ListComp:
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


def _bound(text: str, loop: Span, target: ast.expr) -> list[str]:
    match target:
        case ast.Name(id=name):
            return [name]
        case ast.Tuple(elts=parts) | ast.List(elts=parts):
            return [name for part in parts for name in _bound(text, loop, part)]
        case ast.Starred(value=value):
            return _bound(text, loop, value)
    what = f"`{ast.unparse(target)}` cannot take the items: a task binds names of its own."
    raise HeaderError(text, loop.column, what, "Write a name or several: `for i in ...`, `for a, b in ...`.")
