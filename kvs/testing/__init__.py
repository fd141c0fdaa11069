"""Kits: what an implementer of one of our protocols calls from their own tests."""

from kvs.testing.laws import LawBroken, check_lattice

__all__ = ["LawBroken", "check_lattice"]
