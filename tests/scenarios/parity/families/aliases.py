"""Rebinding and aliases: one object under several names stays one object."""

from __future__ import annotations

from tests.scenarios.parity.program import program

PROGRAMS = (
    program("change through an alias", """
        a = [1]
        b = a
        # %%
        b.append(2)
        a is b
        # %%
        a, b
    """),
    program("alias made in a later cell", """
        table = {"x": 1}
        # %%
        same = table
        same["y"] = 2
        # %%
        table["z"] = 3
        print(same, same is table)
    """),
    program("rebinding parts two names", """
        a = [1]
        b = a
        # %%
        b = [9]
        # %%
        a.append(2)
        # %%
        print(a, b)
    """),
    program("augmented assignment", """
        items = [1]
        pair = (1,)
        i, p = items, pair
        # %%
        items += [2]
        pair += (2,)
        # %%
        print(items is i, pair is p, i, p)
    """),
    program("swap and chain", """
        a, b = [1], [2]
        c = d = e = {}
        # %%
        a, b = b, a
        c["k"] = a
        # %%
        a.append(3)
        print(a, b, d, e is c, e["k"] is a)
    """),
    program("a list that holds itself", """
        loop = [1]
        loop.append(loop)
        # %%
        loop[1][1].append(3)
        # %%
        print(loop, loop[1] is loop)
    """),
    program("two holders of one dict", """
        d = {}
        left, right = [d], (d, 1)
        del d
        # %%
        left[0]["k"] = 1
        # %%
        left.clear()
        right[0]["m"] = 2
        # %%
        print(left, right)
    """),
    program("aliases meet and part", """
        a, b = [1], [2]
        c = [a, b]
        # %%
        b.append(3)
        # %%
        c.clear()
        a.append(9)
        # %%
        c.append(b)
        # %%
        b.append(4)
        print(a, b, c, c[0] is b)
    """),
)  # fmt: skip
