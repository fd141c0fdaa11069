"""Causality: which write saw which, and the types that are made of it."""

from kvs.causal.add_wins import AddWinsSet
from kvs.causal.context import CausalContext
from kvs.causal.dot import Dot
from kvs.causal.register import MultiValue, Sibling, Write
from kvs.causal.text import Text
from kvs.causal.version_vector import VersionVector

__all__ = ["AddWinsSet", "CausalContext", "Dot", "MultiValue", "Sibling", "Text", "VersionVector", "Write"]
