"""`%parallel [options] for TARGET in ITERABLE [-> NAMES]: BODY`, the form on one line: a cell's header, a colon, and
what would be the cell. Without names it is an expression, whose value is the list of what the body gives. Pure."""

from __future__ import annotations

import io
import re
import tokenize
from collections.abc import Iterator

from lambdakernel.parallel.options import HeaderError

USAGE = "Write `%parallel for x in items: f(x)`, or `%parallel for x in items -> results: f(x)`."
VALUE = "__lambdakernel_value__"
"""The name that collects, where none is written."""
_SIZE = re.compile(r"\b\d[\d.]*[A-Za-z]+")
"""`500MB`, which is no token of Python's."""


def split_line(text: str) -> tuple[str, str]:
    """The header and the body in `text`, what follows `%parallel`.

    Raises:
        HeaderError: it has no body, or names after it.
    """
    ops = list(_at_top(text))
    colon = next((column for column, op in ops if op == ":"), None)
    if colon is None or not text[colon + 1 :].strip():
        raise HeaderError(text, len(text), "this line has no body.", USAGE, "%parallel")
    if late := [column for column, op in ops if op == "->" and column > colon]:
        raise HeaderError(text, late[0], "names stand before the colon.", USAGE, "%parallel")
    return text[:colon].rstrip(), text[colon + 1 :].strip()


def _at_top(text: str) -> Iterator[tuple[int, str]]:
    """Columns of the colons and arrows that are in no brackets; not the colons of lambdas."""
    depth = lambdas = 0
    python = _SIZE.sub(lambda found: "x" * len(found[0]), text)
    try:
        for token in tokenize.generate_tokens(io.StringIO(python).readline):
            if token.type == tokenize.NAME and token.string == "lambda" and depth == 0:
                lambdas += 1
            elif token.type == tokenize.OP:
                depth += (token.string in "([{") - (token.string in ")]}")
                if depth == 0 and token.string == ":" and lambdas:
                    lambdas -= 1
                elif depth == 0 and token.string in (":", "->"):
                    yield token.start[1], token.string
    except (tokenize.TokenError, SyntaxError):  # Python says what is wrong with it when it is parsed
        return
