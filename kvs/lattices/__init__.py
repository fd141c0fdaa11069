"""Values that join: associative, commutative and idempotent, so that replicas agree without talking first.

>>> from kvs.lattices import GrowSet, Map, Max
>>> here = Map({"ada": Max(3), "bob": Max(9)})
>>> there = Map({"ada": Max(7)})
>>> here | there
Map({'ada': Max(7), 'bob': Max(9)})

`docs/lattices.md` is the guide.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from kvs.lattices.codec import kept_at

if TYPE_CHECKING:
    from kvs.lattices.average import Average
    from kvs.lattices.base import Lattice
    from kvs.lattices.codec import decode, encode, lattice_type
    from kvs.lattices.counters import GCounter, PNCounter
    from kvs.lattices.declared import Declaration, declarations, monotone, morphism, mutator
    from kvs.lattices.domain import Scalar
    from kvs.lattices.errors import (
        BadEncoding,
        Clash,
        LatticeMismatch,
        MissingExtra,
        NewerEncoding,
        NotReadable,
        NotSealed,
        OutsideDomain,
        UnknownLattice,
    )
    from kvs.lattices.hyperloglog import HyperLogLog
    from kvs.lattices.maps import Map
    from kvs.lattices.pairs import Pair
    from kvs.lattices.registers import Last, WriteOnce
    from kvs.lattices.scalars import BoolOr, Max, Min
    from kvs.lattices.sealed import Sealed
    from kvs.lattices.sets import GrowSet
    from kvs.lattices.top_k import TopK
    from kvs.lattices.union_find import UnionFind

__all__ = [
    "Average",
    "BadEncoding",
    "BoolOr",
    "Clash",
    "Declaration",
    "GCounter",
    "GrowSet",
    "HyperLogLog",
    "Last",
    "Lattice",
    "LatticeMismatch",
    "Map",
    "Max",
    "Min",
    "MissingExtra",
    "NewerEncoding",
    "NotReadable",
    "NotSealed",
    "OutsideDomain",
    "PNCounter",
    "Pair",
    "Scalar",
    "Sealed",
    "TopK",
    "UnionFind",
    "UnknownLattice",
    "WriteOnce",
    "declarations",
    "decode",
    "encode",
    "lattice_type",
    "monotone",
    "morphism",
    "mutator",
]

_WHERE = {
    "average": ("Average",),
    "base": ("Lattice",),
    "codec": ("decode", "encode", "lattice_type"),
    "counters": ("GCounter", "PNCounter"),
    "declared": ("Declaration", "declarations", "monotone", "morphism", "mutator"),
    "domain": ("Scalar",),
    "errors": (
        "BadEncoding",
        "Clash",
        "LatticeMismatch",
        "MissingExtra",
        "NewerEncoding",
        "NotReadable",
        "NotSealed",
        "OutsideDomain",
        "UnknownLattice",
    ),
    "hyperloglog": ("HyperLogLog",),
    "maps": ("Map",),
    "pairs": ("Pair",),
    "registers": ("Last", "WriteOnce"),
    "scalars": ("BoolOr", "Max", "Min"),
    "sealed": ("Sealed",),
    "sets": ("GrowSet",),
    "top_k": ("TopK",),
    "union_find": ("UnionFind",),
}
"""A worker needs few of them on its way up: each module is imported when a name of it is asked for."""
kept_at({
    "average": "kvs.lattices.average",
    "bool_or": "kvs.lattices.scalars",
    "g_counter": "kvs.lattices.counters",
    "grow_set": "kvs.lattices.sets",
    "hyperloglog": "kvs.lattices.hyperloglog",
    "last": "kvs.lattices.registers",
    "map": "kvs.lattices.maps",
    "max": "kvs.lattices.scalars",
    "min": "kvs.lattices.scalars",
    "pair": "kvs.lattices.pairs",
    "pn_counter": "kvs.lattices.counters",
    "sealed": "kvs.lattices.sealed",
    "top_k": "kvs.lattices.top_k",
    "union_find": "kvs.lattices.union_find",
    "write_once": "kvs.lattices.registers",
})  # fmt: skip


def __getattr__(name: str) -> Any:
    for module, names in _WHERE.items():
        if name in names:
            return getattr(import_module(f"kvs.lattices.{module}"), name)
    raise AttributeError(f"module 'kvs.lattices' has no attribute {name!r}")
