"""A lattice-merged, tiered key-value store.

    >>> import kvs
    >>> store = kvs.open("/tmp/example-store")
    >>> with store.space("notes").replica() as replica:
    ...     dot = replica.publish({b"greeting": kvs.Value(b"hello")})
    ...     replica.get(b"greeting")[0].value.payload
    b'hello'

Everything that other packages use is listed here.
"""

from kvs.causal import Dot, MultiValue, Sibling, VersionVector
from kvs.claims import LaneInfo
from kvs.clock import HybridClock
from kvs.errors import (
    BlobDamaged,
    DamageWarning,
    KvsError,
    LaneLost,
    NotAuthentic,
    ReadOnlyReplica,
    SpaceHeld,
    StoreDamaged,
    StoreForeign,
    StoreFull,
    StoreUnusable,
)
from kvs.history import History, Moment, Past, VersionGone
from kvs.replica import Commit, Replica, Value, Version
from kvs.settings import Settings
from kvs.settings import from_env as settings_from_env
from kvs.snapshot import Snapshot
from kvs.space import Space
from kvs.store import SpaceInfo, Store, open
from kvs.tiers.blobs import BlobRef
from kvs.tiers.failures import ExtraMissing, TierDamaged, TierGap, TierRefused, TierUnreachable
from kvs.upkeep import Collected
from kvs.verbs import WrongLattice
from kvs.watch import Change, Watch

__all__ = [
    "BlobDamaged",
    "BlobRef",
    "Change",
    "Collected",
    "Commit",
    "DamageWarning",
    "Dot",
    "ExtraMissing",
    "History",
    "HybridClock",
    "KvsError",
    "LaneInfo",
    "LaneLost",
    "Moment",
    "MultiValue",
    "NotAuthentic",
    "Past",
    "ReadOnlyReplica",
    "Replica",
    "Settings",
    "Sibling",
    "Snapshot",
    "Space",
    "SpaceHeld",
    "SpaceInfo",
    "Store",
    "StoreDamaged",
    "StoreForeign",
    "StoreFull",
    "StoreUnusable",
    "TierDamaged",
    "TierGap",
    "TierRefused",
    "TierUnreachable",
    "Value",
    "Version",
    "VersionGone",
    "VersionVector",
    "Watch",
    "WrongLattice",
    "open",
    "settings_from_env",
]
