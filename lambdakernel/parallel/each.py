"""`--each dict(lr=[0.1, 0.01], depth=[2, 4])`: names with the values that they take, as source. Pure."""

from __future__ import annotations

import ast
import io
import tokenize

EXAMPLE = "dict(lr=[0.1, 0.01], depth=[2, 4])"
Grid = tuple[tuple[str, str], ...]
"""Names, and for each the source of an expression that gives its values."""


def expression_at(text: str, start: int) -> int:
    """Where the expression ends that begins at `start`: before the first white space outside of brackets.

    Raises:
        ValueError: brackets or a string are not closed.
    """
    depth, end = 0, start
    try:
        for token in tokenize.generate_tokens(io.StringIO(text[start:]).readline):
            if token.type in (tokenize.NEWLINE, tokenize.ENDMARKER, tokenize.NL, tokenize.COMMENT):
                continue
            if depth == 0 and start + token.start[1] > end:
                break
            depth += (token.string in ("(", "[", "{")) - (token.string in (")", "]", "}"))
            end = start + token.end[1]
    except (tokenize.TokenError, SyntaxError) as e:
        if depth > 0 or end == start:
            raise ValueError(str(e.args[0])) from None
    return end


def read_grid(text: str) -> Grid:
    """What `text` says.

    Raises:
        ValueError: it is no call of `dict` with names, or has none, or one twice.
    """
    try:
        tree = ast.parse(text, mode="eval").body
    except (SyntaxError, MemoryError, RecursionError) as e:
        raise ValueError(text) from e
    match tree:
        case ast.Call(func=ast.Name(id="dict"), args=[], keywords=[_, *_] as keywords):
            names = [keyword.arg for keyword in keywords]
            if None not in names and len(set(names)) == len(names):
                return tuple((str(keyword.arg), ast.unparse(keyword.value)) for keyword in keywords)
    raise ValueError(text)
