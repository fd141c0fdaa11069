"""Kits: what an implementer of one of our protocols calls from their own tests. They need hypothesis."""

from kvs.testing.confluence import At, NotConfluent, check_confluent
from kvs.testing.kit import check_lattice
from kvs.testing.laws import LawBroken, check_laws
from kvs.testing.program import Output
from kvs.testing.sessions import Read, Violated, Wrote, check_sessions
from kvs.testing.tier import TierBroken, check_tier
from kvs.testing.values import scalars, values_of

__all__ = [
    "At",
    "LawBroken",
    "NotConfluent",
    "Output",
    "Read",
    "TierBroken",
    "Violated",
    "Wrote",
    "check_confluent",
    "check_lattice",
    "check_laws",
    "check_sessions",
    "check_tier",
    "scalars",
    "values_of",
]
