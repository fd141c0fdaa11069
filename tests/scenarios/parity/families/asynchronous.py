"""Async: top-level await, gather, async generators and comprehensions."""

from __future__ import annotations

from tests.scenarios.parity.program import program

PROGRAMS = (
    program("await at top level", """
        import asyncio
        async def fetch(n):
            await asyncio.sleep(0)
            return n * factor
        # %%
        factor = 3
        await fetch(2)
        # %%
        got = await asyncio.gather(*(fetch(n) for n in range(4)))
        # %%
        got.append(await fetch(10)); got
    """),
    program("async with, for and comprehension", """
        class Session:
            def __init__(self): self.events = []
            async def __aenter__(self): self.events.append("in"); return self
            async def __aexit__(self, *exc): self.events.append("out")
            async def items(self):
                for n in range(3): yield n
        # %%
        session = Session()
        async with session as s:
            found = [n async for n in s.items()]
        # %%
        async for n in session.items(): found.append(n * 10)
        # %%
        print(found, session.events, s is session, n)
    """),
    program("errors in coroutines", """
        import asyncio
        async def bad(n):
            await asyncio.sleep(0)
            raise ValueError(n)
        # %%
        await bad(1)
        # %%
        print(await asyncio.gather(bad(2), bad(3), return_exceptions=True))
        # %%
        try:
            async with asyncio.TaskGroup() as group: group.create_task(bad(4))
        except* ValueError as many: print(many.exceptions)
        del group
    """),
    program("task made and awaited in one cell", """
        import asyncio
        done = []
        async def job(name):
            await asyncio.sleep(0); done.append(name); return name
        # %%
        first = asyncio.create_task(job("a")); await first; second = await job("b"); del first
        # %%
        print(done, second)
    """),
    program("timeout and queue", """
        import asyncio
        async def slow(): await asyncio.sleep(5)
        # %%
        try: await asyncio.wait_for(slow(), 0.01)
        except TimeoutError: outcome = "timed out"
        # %%
        outcome
        # %%
        async def feed(q, n):
            for i in range(n): await q.put(i)
        q = asyncio.Queue(); await feed(q, 3); total = q.qsize(); del q
        # %%
        total
    """),
    program("task that runs on", """
        import asyncio
        other = [1]
        async def wait(): await asyncio.sleep(600)
        # %%
        task = asyncio.create_task(wait())
        other.append(2)
        # %%
        task.cancel()
        # %%
        other.append(3); print(other, wait.__name__)
    """, resident="task"),
    program("async generator object", """
        async def count():
            for n in range(5): yield n
        kept = {"a": 1}
        # %%
        stream = count()
        first = await anext(stream)
        # %%
        await anext(stream)
        # %%
        kept["b"] = first; kept
    """, resident="stream"),
    program("coroutine not awaited yet", """
        async def answer(): return 42
        base = [0]
        # %%
        later = answer()
        # %%
        await later
        # %%
        base.append(await answer()); base
    """, resident="later"),
)  # fmt: skip
