"""Objects to bytes and back: a namespace that lives in one process and is kept in a store."""

from lambdakernel.state.ambient import Ambient, Backend, Finalizers, Held, default_ambient
from lambdakernel.state.bounds import Bounds
from lambdakernel.state.cells import Attached, Cell, Committed, EpochInfo, NameRow, Note, Resident
from lambdakernel.state.codec import Dump
from lambdakernel.state.namespace import Namespace
from lambdakernel.state.scrub import Findings
from lambdakernel.state.specials import CannotMove

__all__ = [
    "Ambient",
    "Attached",
    "Backend",
    "Bounds",
    "CannotMove",
    "Cell",
    "Committed",
    "Dump",
    "EpochInfo",
    "Finalizers",
    "Findings",
    "Held",
    "NameRow",
    "Namespace",
    "Note",
    "Resident",
    "default_ambient",
]
