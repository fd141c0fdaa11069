"""Containers: each kind keeps its content, its order, its parameters and its aliases."""

from __future__ import annotations

from tests.scenarios.parity.program import program

PROGRAMS = (
    program("nested lists and dicts", """
        tree = {"kids": [{"name": "a", "kids": []}, {"name": "b", "kids": []}]}
        first = tree["kids"][0]
        # %%
        first["kids"].append({"name": "c"})
        # %%
        tree["kids"].sort(key=lambda kid: kid["name"], reverse=True)
        tree
        # %%
        print(tree["kids"][1] is first, len(first["kids"]))
    """),
    program("collections", """
        from collections import ChainMap, Counter, OrderedDict, defaultdict, deque
        last = deque([1, 2], maxlen=3); counts = Counter("banana"); groups = defaultdict(list)
        ordered = OrderedDict(b=1, a=2); base = {"x": 1}; chain = ChainMap({}, base)
        # %%
        last.extend([3, 4]); counts.update("bandana"); groups["k"].append(1)
        ordered.move_to_end("b"); chain["y"] = 2; base["x"] = 5
        # %%
        last
        # %%
        print(last.maxlen, counts.most_common(2), groups, list(ordered), chain["x"], chain.maps[1] is base)
        # %%
        groups["new"], chain
    """),
    program("sets and frozensets", """
        seen = {3, 1, 2}
        frozen = frozenset(seen)
        holder = [seen]
        # %%
        seen |= {4}
        seen.discard(1)
        # %%
        print(sorted(seen), sorted(frozen), holder[0] is seen, frozen - seen)
    """),
    program("order of a set of strings", """
        words = {"pear", "fig", "apple", "plum", "kiwi", "quince", "date"}
        # %%
        words.add("lemon"); words.remove("fig")
        # %%
        print(list(words), words)
    """),
    program("heap and bisect", """
        import bisect, heapq
        heap, line = [], []
        # %%
        for n in (5, 1, 4, 2): heapq.heappush(heap, n); bisect.insort(line, n)
        # %%
        print(heapq.heappop(heap), heap, line)
        # %%
        heapq.heappush(heap, 0); heap
    """),
    program("dict views and order", """
        d = {"b": 1, "a": 2}
        keys, values, items = d.keys(), d.values(), d.items()
        # %%
        d["c"] = 3; d["b"] = d.pop("b")
        # %%
        print(list(keys), list(values), list(items), keys & {"a", "z"})
        # %%
        d |= {"z": 0}; keys
    """),
    program("array and queue", """
        import array, queue
        a = array.array("d", [1.5, 2.5]); q = queue.Queue(); p = queue.PriorityQueue()
        # %%
        a.append(3.5); q.put("x"); p.put((2, "b")); p.put((1, "a"))
        # %%
        print(a, a.typecode, q.get(), p.get(), q.qsize(), p.qsize())
    """),
    program("named tuple inside containers", """
        from collections import namedtuple
        Point = namedtuple("Point", "x y", defaults=(0,))
        points = {"o": Point(0, [1])}
        # %%
        points["o"].y.append(2)
        points["p"] = points["o"]._replace(x=9)
        # %%
        points
        # %%
        print(points["o"].y is points["p"].y, Point(1), Point._fields, isinstance(points["p"], Point))
    """),
    program("slices and deletion in place", """
        a = list(range(10))
        b = a
        # %%
        del a[2:5]; a[::2] = "wxyz"
        # %%
        b
        # %%
        b.clear(); a
    """),
    program("large list of objects", """
        rows = [{"id": n, "tags": [str(n)]} for n in range(2000)]
        index = {row["id"]: row for row in rows}
        # %%
        index[1234]["tags"].append("hit")
        # %%
        print(rows[1234], rows[1234] is index[1234], sum(len(row["tags"]) for row in rows))
    """),
)  # fmt: skip
