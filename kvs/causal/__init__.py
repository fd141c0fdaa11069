"""Causality: which write saw which."""

from kvs.causal.dot import Dot
from kvs.causal.register import MultiValue, Sibling
from kvs.causal.version_vector import VersionVector

__all__ = ["Dot", "MultiValue", "Sibling", "VersionVector"]
