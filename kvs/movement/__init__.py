"""What moves between tiers, and when: a pure policy, a short actor, and a simulator to judge both.

`decide` goes from samples to moves, `Mover` carries them out on anything that is `Movable`, `Observer` makes samples of
accesses. `simulator`, `traces` and `baselines` are for benchmarks and tests; nothing here imports them.
"""

from kvs.movement.actor import Failed, Limits, Mover, Report, Spent
from kvs.movement.bids import PERSON, WORKER, Bidder, Terms, next_terms
from kvs.movement.copies import choose_copies, choose_scale
from kvs.movement.decisions import Copy, Decision, Demote, Drop, Move, Plan, Promote, Scale
from kvs.movement.movable import MemoryTiers, Movable, Refused
from kvs.movement.observer import Observer
from kvs.movement.policy import decide, displaced
from kvs.movement.reuse import PRIOR, ReuseModel
from kvs.movement.samples import Budget, Key, Load, Sample, Tier

__all__ = [
    "PERSON",
    "PRIOR",
    "WORKER",
    "Bidder",
    "Budget",
    "Copy",
    "Decision",
    "Demote",
    "Drop",
    "Failed",
    "Key",
    "Limits",
    "Load",
    "MemoryTiers",
    "Movable",
    "Move",
    "Mover",
    "Observer",
    "Plan",
    "Promote",
    "Refused",
    "Report",
    "ReuseModel",
    "Sample",
    "Scale",
    "Spent",
    "Terms",
    "Tier",
    "choose_copies",
    "choose_scale",
    "decide",
    "displaced",
    "next_terms",
]
