"""What differs between two moments of the namespace, a variable at a time. Nothing is bound and nothing is changed."""

from __future__ import annotations

from typing import Literal

import msgspec

import kvs
from kvs.history import Past
from lambdakernel.errors import LambdaKernelError
from lambdakernel.state.aside import Aside
from lambdakernel.state.timeline import Timeline, variables
from lambdakernel.state.units import Unit

SMALL_NBYTES = 1 << 20
"""Bytes of a unit up to which its values are loaded to be compared and shown."""
LONGEST_REPR = 200
"""Characters up to which a value is shown."""


class Difference(msgspec.Struct, frozen=True):
    """One variable; each pair is before, after, and empty or 0 where there is none."""

    name: str
    change: Literal["added", "removed", "changed", "unknown"]
    types: tuple[str, str] = ("", "")
    nbytes: tuple[int, int] = (0, 0)
    """Of the value with all that shares structure with it."""
    shown: tuple[str, str] = ("", "")
    """Its `repr` where that is short."""
    why: str = ""
    """Why nobody can say."""


def differences(timeline: Timeline, first: kvs.VersionVector, second: kvs.VersionVector) -> list[Difference]:
    """Variables that differ, by name; one whose stored version was collected or damaged is `unknown`.

    Names that share structure are stored together: a value up to `SMALL_NBYTES` is compared by itself, a larger one
    counts as changed if anything was written that is stored with it.
    """
    pasts = [timeline.history.at(vector) for vector in (first, second)]
    one, two = (Aside(past, timeline.keys) for past in pasts)
    unknown = {name: why for past in pasts for name, why in _unreadable(past, timeline)}
    found = [Difference(name, "unknown", why=why) for name, why in unknown.items()]
    for name in variables([*one.catalogue.names, *two.catalogue.names]) - unknown.keys():
        difference = _difference(name, one, two)
        found += [difference] if difference is not None else []
    return sorted(found, key=lambda difference: difference.name)


def _unreadable(past: Past, timeline: Timeline) -> list[tuple[str, str]]:
    found = []
    for key in past.keys(timeline.keys.units):
        try:
            past.get(key)
        except kvs.KvsError as e:
            found += [(name, str(e)) for name in timeline.names_ever(key)]
    return found


def _difference(name: str, one: Aside, two: Aside) -> Difference | None:
    before, after = one.catalogue.of_name(name), two.catalogue.of_name(name)
    types, sizes = (_type(name, before), _type(name, after)), (_nbytes(before), _nbytes(after))
    if before is None:
        return Difference(name, "added", types, sizes, ("", _shown(name, after, two)))
    if after is None:
        return Difference(name, "removed", types, sizes, (_shown(name, before, one), ""))
    is_stored_alike = before.fingerprint == after.fingerprint != () and before.names == after.names
    is_same = before == after or is_stored_alike
    if (is_same and not _is_class_changed(name, before, one, two)) or (
        not is_same and _is_equal(name, one, two, sizes)
    ):
        return None
    return Difference(name, "changed", types, sizes, (_shown(name, before, one), _shown(name, after, two)))


def _is_class_changed(name: str, unit: Unit, one: Aside, two: Aside) -> bool:
    """Whether the name is bound to a class whose definition changed in place: that is a unit of its own."""
    definitions = [(one.catalogue.of_class(uid), two.catalogue.of_class(uid)) for uid in unit.uses]
    if all(before == after for before, after in definitions):
        return False
    try:
        return isinstance(one.value(name), type) and one.look([name]) != two.look([name])
    except (LambdaKernelError, TypeError):
        return False


def _type(name: str, unit: Unit | None) -> str:
    return unit.types.get(name, "?") if unit is not None else ""


def _nbytes(unit: Unit | None) -> int:
    return unit.nbytes if unit is not None else 0


def _is_equal(name: str, one: Aside, two: Aside, sizes: tuple[int, int]) -> bool:
    if max(sizes) > SMALL_NBYTES:
        return False
    try:
        return one.look([name]) == two.look([name])
    except Exception:  # it cannot be loaded or encoded: written anew is all that is known of it
        return False


def _shown(name: str, unit: Unit | None, aside: Aside) -> str:
    if unit is None or unit.nbytes > SMALL_NBYTES:
        return ""
    if unit.resident is not None:
        return f"({unit.resident.reason})"
    try:
        text = repr(aside.value(name))
    except Exception as e:  # of the user's own `__repr__`, which may need what is not there any more
        return f"({type(e).__name__})"
    return text if len(text) <= LONGEST_REPR else ""
