"""Objects of the standard library that have a position, a source or a context of their own."""

from __future__ import annotations

from tests.scenarios.parity.program import program

PROGRAMS = (
    program("chain map and ordered dict", """
        from collections import ChainMap, OrderedDict
        base, top = {"a": 1}, {"b": 2}
        chain = ChainMap(top, base); order = OrderedDict(x=1, y=2, z=3)
        # %%
        chain["a"] = 5; order.move_to_end("x"); base["c"] = 9
        # %%
        child = chain.new_child({"q": 0}); order.popitem(last=False)
        # %%
        print(chain, top is chain.maps[0], base is child.maps[2], order, list(reversed(order)))
    """),
    program("deque with a length, counter, default dict", """
        from collections import Counter, defaultdict, deque
        last = deque([1, 2, 3], maxlen=3); seen = Counter("abca"); groups = defaultdict(list)
        # %%
        last.append(4); seen.update("zz"); groups["k"].append(last)
        # %%
        last.rotate(1); groups["k"][0].appendleft(0)
        # %%
        print(last, last.maxlen, seen.most_common(2), groups, groups["new"])
    """),
    program("text and byte streams in memory", """
        import io
        text, raw = io.StringIO("one\\ntwo\\nthree\\n"), io.BytesIO(b"0123456789")
        # %%
        text.readline(), raw.read(4)
        # %%
        text.tell(), raw.tell(), text.readline()
        # %%
        raw.write(b"xx"); text.seek(0, 2); text.write("four")
        # %%
        print(repr(text.getvalue()), raw.getvalue(), raw.tell(), text.closed)
    """),
    program("random generators of one's own", """
        import random
        mine, other = random.Random(7), random.Random(7)
        alias = mine
        # %%
        mine.random(), mine.gauss(0, 1)
        # %%
        alias.choice("abc"), mine.sample(range(100), 3)
        # %%
        print(other.random(), mine.random(), alias is mine)
    """),
    program("iterators that share a source", """
        source = iter(range(10)); pairs = zip(source, source); squares = map(lambda n: n * n, source)
        # %%
        next(pairs), next(squares)
        # %%
        numbered = enumerate(source, 1); next(numbered)
        # %%
        print(next(source), list(pairs), list(squares), list(numbered))
    """),
    program("slices of iterators", """
        import itertools
        count = itertools.count(5, 2); cycle = itertools.cycle("ab"); total = itertools.accumulate(count)
        # %%
        next(count), next(cycle), next(total)
        # %%
        first = itertools.islice(count, 2); chained = itertools.chain(first, cycle)
        # %%
        print(next(chained), next(chained), next(chained), next(count), next(cycle))
    """),
    program("memory views and arrays", """
        from array import array
        numbers = array("d", [1, 2, 3]); raw = bytearray(b"abcdef"); kept = [numbers, raw]
        # %%
        numbers.append(4); raw[0:2] = b"ZZ"
        # %%
        memoryview(raw)[2:4].tobytes(), kept[0] is numbers, sum(memoryview(numbers))
        # %%
        print(numbers, raw, numbers.typecode, kept)
    """),
    program("mapped file", """
        import mmap, tempfile
        file = tempfile.TemporaryFile(); file.write(b"hello world"); file.flush()
        mapped = mmap.mmap(file.fileno(), 0); note = "kept"
        # %%
        mapped[:5]
        # %%
        print(note)
    """, resident="mapped"),
    program("matches and patterns", """
        import re
        pattern = re.compile(r"(?P<word>\\w+)=(\\d+)")
        found = pattern.search("  key=42; other=7")
        # %%
        found, found["word"], found.groups(), found.span(2)
        # %%
        second = list(pattern.finditer("a=1 b=2 c=3"))[1]; whole = pattern.fullmatch("k=1")
        # %%
        print(found.re is pattern, found.string[found.end():], second, second.span("word"), whole.pos, whole.endpos)
    """),
    program("moments, zones and durations", """
        import datetime as dt
        from zoneinfo import ZoneInfo
        zone = ZoneInfo("Europe/Berlin")
        start = dt.datetime(2024, 3, 30, 12, tzinfo=zone); step = dt.timedelta(days=1)
        # %%
        after = start + step; after, after.utcoffset(), start.utcoffset()
        # %%
        print(after.tzinfo is zone, start.tzinfo is ZoneInfo("Europe/Berlin"))
        print(dt.timezone.utc is after.astimezone(dt.timezone.utc).tzinfo)
    """),
    program("paths, fractions, decimals and ids", """
        import decimal, fractions, pathlib, uuid
        path = pathlib.PurePosixPath("/a") / "b.txt"; third = fractions.Fraction(1, 3)
        price = decimal.Decimal("1.10"); key = uuid.UUID(int=5)
        # %%
        path.with_suffix(".md"), third * 3, price.quantize(decimal.Decimal("0.1")), key
        # %%
        print({path: third, price: key}, path == pathlib.PurePosixPath("/a/b.txt"), third.limit_denominator(2))
    """),
    program("exit stack that is open", """
        import contextlib
        log = []
        stack = contextlib.ExitStack()
        # %%
        stack.callback(log.append, "first"); stack.callback(log.append, "second")
        # %%
        stack.close()
        # %%
        print(log)
    """),
    program("context variables", """
        import contextvars
        level = contextvars.ContextVar("level", default=0)
        # %%
        token = level.set(3); level.get()
        # %%
        other = 1
    """, resident="level"),
    program("namespaces, proxies and getters", """
        import operator, types
        box = types.SimpleNamespace(a=[1], b=None); box.self = box
        real = {"k": 1}; view = types.MappingProxyType(real)
        get, item, call = operator.attrgetter("a", "b"), operator.itemgetter(0), operator.methodcaller("upper")
        # %%
        real["n"] = 2; box.a.append(2); get(box), item("xyz"), call("up")
        # %%
        print(view, box.self is box, box.a, get, item, call)
    """),
    program("heap of objects", """
        import heapq
        from dataclasses import dataclass, field
        @dataclass(order=True)
        class Job:
            rank: int
            name: str = field(compare=False)
        queue = []
        # %%
        for rank, name in ((3, "c"), (1, "a"), (2, "b")): heapq.heappush(queue, Job(rank, name))
        # %%
        heapq.heappop(queue), heapq.nsmallest(1, queue)
        # %%
        print(queue, heapq.heappushpop(queue, Job(0, "z")))
    """),
    program("hashes that go on", """
        import hashlib, zlib
        check = zlib.crc32(b"one"); digest = hashlib.sha256(b"one"); other = 1
        # %%
        check = zlib.crc32(b"two", check); check
        # %%
        print(other)
    """),
    program("the only ones of their kind, in modules of libraries", """
        import email.policy, os, random, unittest.mock as mock
        import matplotlib as mpl, numpy as np, pandas as pd
        anything, policy, settings = mock.ANY, email.policy.default, mpl.rcParams
        options, numbers, environment = pd.options, np.random.mtrand._rand, os.environ
        holder = {"any": mock.ANY, "other": [policy]}
        # %%
        print(anything is mock.ANY, policy is email.policy.default)
        print(settings is mpl.rcParams, options is pd.options, numbers is np.random.mtrand._rand)
        print(environment is os.environ, holder["any"] is anything, holder["other"][0] is policy)
        # %%
        settings["lines.linewidth"] = 4; options.display.precision = 3; environment["PARITY_X"] = "1"
        # %%
        print(mpl.rcParams["lines.linewidth"], pd.get_option("display.precision"), os.environ["PARITY_X"])
        del os.environ["PARITY_X"]
    """),
    program("the only one of a module, which the notebook changes", """
        with open("settings_of_own.py", "w") as file:
            file.write("class Settings:\\n    def __init__(self): self.level = [1]\\nsettings = Settings()\\n")
        import sys; sys.path.insert(0, "")
        from settings_of_own import settings
        # %%
        settings.level.append(2); settings.more = {"a": 1}
        # %%
        print(settings.level, settings.more)
        # %%
        import decimal
        context = decimal.DefaultContext.copy(); context.prec = 5
        # %%
        print(context.divide(decimal.Decimal(1), 3))
    """),
    program("observers of traits", """
        import traitlets as tl
        class Model(tl.HasTraits):
            x, names = tl.Int(3), tl.List()
            @tl.observe("x")
            def _changed(self, change): self.names = [*self.names, change["new"]]
            @tl.validate("x")
            def _valid(self, proposal): return abs(proposal["value"])
        model, seen = Model(), []
        model.observe(lambda change: seen.append(change["new"]), "x")
        # %%
        model.x = -5; print(seen, model.names, model.x)
        # %%
        model.unobserve_all("x"); model.x = 6; print(seen, model.names)
    """),
    program("finalizer of a value", """
        import weakref
        class Res: pass
        log = []
        res = Res(); weakref.finalize(res, log.append, "gone")
        # %%
        len(log)
        # %%
        del res
        # %%
        print(log)
    """),
    program("a document and its elements", """
        from bs4 import BeautifulSoup
        rows = "".join(f"<p id='{n}'>{n}<!-- c --></p>" for n in range(500))
        soup = BeautifulSoup(f"<div>{rows}</div>", "html.parser")
        found = soup.find_all("p"); text = found[3].contents[0]
        # %%
        print(found[5] is soup.find(id="5"), text.parent is found[3], type(text).__name__)
        print(found[7].find_next("p")["id"])
        # %%
        found[0]["class"] = "hot"; text.replace_with("new"); soup.div.append(soup.new_tag("hr"))
        # %%
        print(soup.select(".hot")[0] is found[0], found[3], str(soup)[-12:], text.parent)
        # %%
        gone = found[1].extract()
        # %%
        print(gone, gone.parent, len(soup.find_all("p")), found[2].find_previous("p") is found[0])
    """),
    program("a template and its environment", """
        import jinja2
        env = jinja2.Environment(); env.filters["loud"] = lambda s: s.upper() + "!"
        template = env.from_string("{{ a | loud }}")
        # %%
        print(template.render(a="hey"), template.environment is env)
        # %%
        print(env.from_string("{{ 1 + 1 }}").render(), "loud" in env.filters)
    """),
)  # fmt: skip
