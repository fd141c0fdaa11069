"""Weak references: alive as long as their objects."""

from __future__ import annotations

from tests.scenarios.parity.program import program

PROGRAMS = (
    program("weak reference", """
        import weakref
        class C: pass
        o = C(); ref = weakref.ref(o)
        # %%
        ref() is o
        # %%
        del o
        # %%
        ref() is None
    """),
    program("weak containers", """
        import weakref
        class Key:
            def __init__(self, n): self.n = n
        a, b = Key(1), Key(2)
        values = weakref.WeakValueDictionary(a=a, b=b); keys = weakref.WeakKeyDictionary({a: [1], b: [2]})
        group = weakref.WeakSet([a, b])
        # %%
        keys[a].append(3); values["a"] is a, len(group)
        # %%
        del b
        # %%
        print(sorted(values), [k.n for k in keys], len(group), keys[a])
    """),
    program("weak proxy", """
        import weakref
        class C:
            def __init__(self): self.hits = []
            def hit(self): self.hits.append(1)
        c = C(); proxy = weakref.proxy(c)
        # %%
        proxy.hit()
        # %%
        print(c.hits, len(proxy.hits))
    """),
    program("weak proxy of what is gone", """
        import weakref
        class C: x = 1
        c = C(); proxy = weakref.proxy(c)
        # %%
        del c; other = [1]
        # %%
        other
        # %%
        proxy.x
    """),
    program("weak method", """
        import weakref
        class C:
            def __init__(self): self.hits = []
            def hit(self): self.hits.append(1)
        c = C(); method = weakref.WeakMethod(c.hit)
        # %%
        method()()
        # %%
        print(c.hits)
        # %%
        del c; method() is None
    """),
    program("parent link", """
        import weakref
        class Node:
            def __init__(self, parent=None): self._parent = parent and weakref.ref(parent); self.kids = []
            @property
            def parent(self): return self._parent and self._parent()
        root = Node(); kid = Node(root); root.kids.append(kid)
        # %%
        kid.parent is root
        # %%
        kid.parent.kids.append("x"); len(root.kids)
        # %%
        del root; kid.parent
    """),
    program("finalizers in their cell", """
        import weakref
        class Res:
            def __init__(self, n): self.n = n
            def __del__(self): print("del", self.n)
        r = Res("r")
        # %%
        print("still", r.n)
        # %%
        del r
        # %%
        print("after")
    """),
)  # fmt: skip
