"""Classes of the notebook as `stays` looks at them: what they have, and which attributes their methods set.

Only plain classes are known: of type `type`, made of plain classes or exceptions, with methods that a person writes to
compute. One that takes over how attributes are found, how it is deleted, or how others inherit from it, is not.
"""

from __future__ import annotations

import dis
import types
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

UNKNOWN = object()
"""Stands for a member that is not known."""
_SPECIAL = frozenset(
    "__init__ __post_init__ __repr__ __str__ __format__ __bytes__ __bool__ __int__ __float__ __complex__ __index__"
    " __hash__ __eq__ __ne__ __lt__ __le__ __gt__ __ge__ __len__ __iter__ __next__ __reversed__ __contains__"
    " __getitem__ __setitem__ __delitem__ __missing__ __call__ __enter__ __exit__ __add__ __radd__ __iadd__ __sub__"
    " __rsub__ __isub__ __mul__ __rmul__ __imul__ __matmul__ __rmatmul__ __truediv__ __rtruediv__ __floordiv__"
    " __rfloordiv__ __mod__ __rmod__ __divmod__ __pow__ __rpow__ __and__ __rand__ __or__ __ror__ __xor__ __rxor__"
    " __lshift__ __rshift__ __neg__ __pos__ __abs__ __invert__ __round__ __trunc__ __floor__ __ceil__".split()
)
"""Methods of Python's that are like any other."""
_SAID = frozenset(
    "__module__ __qualname__ __doc__ __annotations__ __annotate__ __annotate_func__ __annotations_cache__ __slots__"
    " __match_args__ __dict__ __weakref__ __orig_bases__ __parameters__ __firstlineno__ __static_attributes__"
    " __dataclass_fields__ __dataclass_params__ __replace__ __slotnames__".split()
)
"""What a class says of itself."""
_STAYS = frozenset(
    {int, float, complex, bool, str, bytes, type(None), range, slice, type(Ellipsis), type(NotImplemented)}
)
_PLACES = (types.GetSetDescriptorType, types.MemberDescriptorType)


class Method(NamedTuple):
    """A function of a class; `takes_self`: its first argument is an instance."""

    function: Any
    takes_self: bool


def is_of_notebook(kind: type, live: Mapping[str, Any]) -> bool:
    """Whether `kind` is a plain class that a cell has defined."""
    said = type.__getattribute__(kind, "__dict__").get("__module__") if type(kind) is type else None
    return said == "__main__" == live.get("__name__")


def members(kind: type) -> Iterator[tuple[str, Any]]:
    """What a class has, by name: a `Method`, another value, or `UNKNOWN`."""
    own = type.__getattribute__(kind, "__dict__")
    is_dataclass = "__dataclass_params__" in own
    for name, member in own.items():
        if name in _SAID:
            if name in ("__dict__", "__weakref__") and not isinstance(member, _PLACES):
                yield name, UNKNOWN
        elif name.startswith("__") and name.endswith("__") and name not in _SPECIAL:
            yield name, UNKNOWN
        elif not (is_dataclass and name != "__init__" and _is_generated(member)):
            yield from ((name, each) for each in _member(member))


def _is_generated(member: Any) -> bool:
    """Whether `dataclasses` has made it: to compare, and to show, field by field."""
    if not isinstance(member, types.FunctionType):
        return False
    return member.__code__.co_filename == "<string>" or member.__globals__.get("__name__") in ("dataclasses", "reprlib")


def _member(member: Any) -> Iterator[Any]:
    match member:
        case types.FunctionType():
            yield Method(member, takes_self=True)
        case staticmethod() | classmethod():
            yield _method(member.__func__, takes_self=False)
        case property():
            for function in filter(None, (member.fget, member.fset, member.fdel)):
                yield _method(function, takes_self=True)
        case _ if isinstance(member, _PLACES):
            return
        case _:
            yield member


def _method(function: Any, *, takes_self: bool) -> Any:
    return Method(function, takes_self) if isinstance(function, types.FunctionType) else UNKNOWN


def can_change(value: Any) -> bool:
    """Whether a value that a class has, or a default of a method, may change in place, which nobody would notice."""
    kind = type(value)
    if kind in (tuple, frozenset):
        return any(map(can_change, value))
    if kind in _STAYS or isinstance(value, (type, types.FunctionType, types.BuiltinFunctionType)):
        return False
    return (kind.__module__, kind.__qualname__) != ("dataclasses", "_HAS_DEFAULT_FACTORY_CLASS")


def defined_in(live: Mapping[str, Any]) -> dict[type, dict[str, Any]]:
    """The notebook's classes that variables are, or are instances of, each with what it has."""
    found: dict[type, dict[str, Any]] = {}
    for value in live.values():
        for kind in type.mro(value) if type(value) is type else type(value).__mro__:
            if kind not in found and is_of_notebook(kind, live):
                found[kind] = _had(kind)
    return found


def are_as_before(found: Mapping[type, Mapping[str, Any]]) -> bool:
    """Whether classes still have what `defined_in` has found."""
    for kind, before in found.items():
        now = _had(kind)
        if now.keys() != before.keys() or any(now[name] is not before[name] for name in now):
            return False
    return True


def _had(kind: type) -> dict[str, Any]:
    own = type.__getattribute__(kind, "__dict__")
    return {name: own[name] for name in own if name != "__slotnames__"}  # which pickling an instance adds


def held_by(instance: Any) -> Iterator[Any]:
    """The attributes of an instance of such a class; no code of it is run."""
    for base in type(instance).__mro__[:-1]:
        for name, member in type.__getattribute__(base, "__dict__").items():
            if name == "__dict__":
                yield from member.__get__(instance).values()
            elif isinstance(member, types.MemberDescriptorType):
                try:
                    yield member.__get__(instance)
                except AttributeError:  # it is not set
                    continue


def sets_of(instructions: Sequence[dis.Instruction], own: str) -> frozenset[int]:
    """Places of the instructions that set an attribute of what the name `own` stands for, which is never bound anew."""
    if any(one.opname.startswith(("STORE_FAST", "STORE_DEREF")) and own in _names(one) for one in instructions):
        return frozenset()
    return frozenset(
        n for n, one in enumerate(instructions) if one.opname == "STORE_ATTR" and _target(instructions, n) == own
    )


def _target(instructions: Sequence[dis.Instruction], n: int) -> str:
    """The name whose attribute instruction `n` sets; empty if that is not seen."""
    before = instructions[n - 1]
    if before.opname == "SWAP":  # `x.a += ...`: x was loaded, and copied to be asked for `a`
        wanted = instructions[n].argval
        for at in range(n - 2, 0, -1):
            if instructions[at].opname == "COPY" and instructions[at + 1].argval == wanted:
                before = instructions[at - 1]
                break
    if before.opname.startswith("LOAD_FAST"):
        return _names(before)[-1]
    return str(before.argval) if before.opname == "LOAD_DEREF" else ""


def _names(instruction: dis.Instruction) -> tuple[str, ...]:
    value = instruction.argval
    return tuple(map(str, value)) if isinstance(value, tuple) else (str(value),)
