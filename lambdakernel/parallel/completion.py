"""What can be written next in the first line of `%%parallel` and `%%background`. Pure."""

from __future__ import annotations

from lambdakernel.parallel.again import CHOICES
from lambdakernel.parallel.header import FOR_ONE
from lambdakernel.parallel.options import HeaderError, option_names, read_options

LOOP = ("for", "->")


def completions(line: str, symbol: str) -> list[str]:
    """Words that begin with `symbol`, the last of `line` (with the magic's name, up to the cursor); none where Python
    is written."""
    magic, _, written = line.partition(" ")
    before = written[: len(written) - len(symbol)]
    if before.split()[-1:] == ["--again"]:
        return [choice for choice in CHOICES if choice.startswith(symbol)]
    names = FOR_ONE if magic == "%%background" else option_names()
    try:
        _, end = read_options(before, magic, names)
    except HeaderError:  # an option that waits for its value
        return []
    if before[end:].strip():
        return []
    given = {word.partition("=")[0] for word in before.split()}
    words = [name for name in names if name not in given]
    return [word for word in [*words, *(LOOP if magic != "%%background" else ())] if symbol and word.startswith(symbol)]
