"""Values that join: associative, commutative and idempotent, so that replicas agree without talking first.

>>> from kvs.lattices import GrowSet, Map, Max
>>> here = Map({"ada": Max(3), "bob": Max(9)})
>>> there = Map({"ada": Max(7)})
>>> here | there
Map({'ada': Max(7), 'bob': Max(9)})

`docs/lattices.md` is the guide.
"""

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
