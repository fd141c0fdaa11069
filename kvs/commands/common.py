"""What the commands share: exit codes, and how they print."""

from __future__ import annotations

from collections.abc import Iterable

import kvs

WHOLE, DAMAGED, UNUSABLE = 0, 1, 2
"""Done, and nothing is damaged; something is damaged, and was named; the store cannot be used."""


def printable(text: str) -> str:
    """Names are any text: no escape sequence of one reaches the terminal."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode() for c in text)


def say(name: str, lines: Iterable[str]) -> int:
    """Print what is said of one space; how many lines there were."""
    shown = [print(printable(f"{name}: {line}")) for line in lines]
    return len(shown)


def spaces(store: kvs.Store) -> list[kvs.SpaceInfo]:
    """Every space, in the order of their names."""
    return sorted(store.spaces(), key=lambda info: info.name)
