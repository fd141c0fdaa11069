"""Text and bytes: strings, bytes, bytearrays, views of memory, streams in memory."""

from __future__ import annotations

from tests.scenarios.parity.program import program

PROGRAMS = (
    program("bytearray and memoryview in a cell", """
        raw = bytearray(b"hello"); same = [raw]
        # %%
        with memoryview(raw) as m: m[0:2] = b"HE"
        del m
        # %%
        same[0].extend(b"!"); raw
        # %%
        print(raw is same[0], bytes(raw).hex(" "))
    """),
    program("one megabyte of bytes", """
        blob = bytearray(1_000_000); text = "é" * 300_000; frozen = bytes(range(256)) * 1000
        # %%
        blob[500_000] = 7; text += "end"
        # %%
        import zlib
        print(zlib.crc32(blob), len(text.encode()), text[-4:], zlib.crc32(frozen), sum(blob))
    """),
    program("streams in memory", """
        import io
        s, b = io.StringIO(), io.BytesIO(b"abcdef"); s.write("one "); b.seek(2)
        # %%
        s.write("two"); b.read(2)
        # %%
        print(s.getvalue(), b.tell(), b.read()); print("three", file=s)
        # %%
        s.seek(4); s.read()
    """),
    program("odd strings", """
        words = ["\\u00e9", "e\\u0301", "\\U0001F600", "tab\\t", "nul\\x00", "\\ud800", ""]
        # %%
        words.append(words[0].upper()); words
        # %%
        import unicodedata
        print([unicodedata.normalize("NFC", w) == words[0] for w in words[:2]], len(words[5]), words[2])
    """),
    program("formats and templates", """
        from string import Template
        t = Template("$who is $what"); row = "{:>6}|{:<4}|{:^5}".format
        # %%
        who = "Ada"; t.substitute(who=who, what=1), row(1, 2, 3)
        # %%
        print(f"{who!r:>8} {who=} {3.14159:.2f} {255:#x} {10**9:,}")
    """),
    program("regular expressions", """
        import re
        pat = re.compile(r"(?P<k>\\w+)=(\\d+)"); found = pat.search("a=1, b=22")
        # %%
        print(pat.findall("x=3 y=4"), pat.pattern)
        # %%
        pat.sub(lambda m: m["k"] * 2, "q=1")
    """),
    program("numbers, dates and paths", """
        import datetime as dt, decimal, fractions, pathlib, uuid
        when = dt.datetime(2024, 2, 29, 12, tzinfo=dt.timezone.utc); d = decimal.Decimal("1.10")
        third = fractions.Fraction(1, 3); path = pathlib.Path("/a/b"); u = uuid.UUID(int=5); big = 10 ** 40
        # %%
        when, d, third, path / "c", u, big + 1, float("inf"), complex(1, 2), ..., None
        # %%
        print(when + dt.timedelta(days=1), d * 3, third + 1, path.suffix == "", -0.0, True + True)
    """),
)  # fmt: skip
