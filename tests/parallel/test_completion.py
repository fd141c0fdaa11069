"""What can be written next in the header of a fan-out."""

import pytest

from lambdakernel.parallel.completion import completions


@pytest.mark.parametrize(
    ("line", "symbol", "found"),
    [
        ("%%parallel --w", "--w", ["--workers"]),
        ("%%parallel --workers 2 --re", "--re", ["--retries", "--retry-errors"]),
        ("%%parallel --workers 2 --w", "--w", []),
        ("%%parallel --each dict(a=[1, 2]) --mem", "--mem", ["--memory"]),
        ("%%parallel --again y", "y", ["yes"]),
        ("%%parallel --again ", "", ["auto", "yes", "no"]),
        ("%%parallel fo", "fo", ["for"]),
        ("%%parallel --times 3 -", "-", ["--workers", "--timeout", "--each", "--retries", "--retry-errors", "--again",
                                         "--memory", "--background", "--keep-going", "->"]),
        ("%%parallel --workers ", "", []),
        ("%%parallel --workers --ti", "--ti", []),
        ("%%parallel for i in --ti", "--ti", []),
        ("%%background --m", "--m", ["--memory"]),
        ("%%background --w", "--w", []),
        ("%%background fo", "fo", []),
    ],
)  # fmt: skip
def test_words(line, symbol, found):
    assert completions(line, symbol) == found
