"""Values that join: associative, commutative and idempotent, so that replicas agree without talking first.

>>> from kvs.lattices import GrowSet, Map, Max
>>> here = Map({"ada": Max(3), "bob": Max(9)})
>>> there = Map({"ada": Max(7)})
>>> here.join(there)
Map({'ada': Max(value=7), 'bob': Max(value=9)})
"""

from kvs.lattices.base import Lattice
from kvs.lattices.maps import Map
from kvs.lattices.registers import Last
from kvs.lattices.scalars import BoolOr, Max, Min
from kvs.lattices.sets import GrowSet

__all__ = ["BoolOr", "GrowSet", "Last", "Lattice", "Map", "Max", "Min"]
