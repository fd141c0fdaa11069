"""Causality: which write saw which, and the types that are made of it."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from kvs.causal.context import CausalContext
from kvs.causal.dot import Dot
from kvs.causal.register import MultiValue, Sibling, Write
from kvs.causal.version_vector import VersionVector
from kvs.lattices.codec import kept_at

if TYPE_CHECKING:
    from kvs.causal.add_wins import AddWinsSet
    from kvs.causal.text import Text

__all__ = ["AddWinsSet", "CausalContext", "Dot", "MultiValue", "Sibling", "Text", "VersionVector", "Write"]

_WHERE = {"AddWinsSet": "kvs.causal.add_wins", "Text": "kvs.causal.text"}
"""Imported when they are asked for, by name or by the tag of stored bytes."""
kept_at({"add_wins_set": "kvs.causal.add_wins", "text": "kvs.causal.text"})


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module 'kvs.causal' has no attribute {name!r}")
    return getattr(import_module(_WHERE[name]), name)
