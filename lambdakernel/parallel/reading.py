"""What code does, by its instructions: the names that it reads, what it asks of them, and what it binds."""

from __future__ import annotations

import dis
import types
from collections.abc import Iterator, Mapping

import msgspec

_GLOBALS = frozenset({"LOAD_GLOBAL", "LOAD_NAME", "LOAD_FROM_DICT_OR_GLOBALS"})
_LOCALS = ("LOAD_FAST", "LOAD_DEREF", "LOAD_CLOSURE", "STORE_FAST_LOAD_FAST")
_ATTRIBUTES = frozenset({"LOAD_ATTR", "LOAD_METHOD", "LOAD_SUPER_ATTR"})


class Imported(msgspec.Struct, frozen=True):
    """What a name that code binds by an import stands for: a module, or a part of one."""

    module: str
    part: tuple[str, ...] = ()


class Use(msgspec.Struct, frozen=True):
    """Where code reads a name, and the attributes that it asks of it at once; of no name, of what it has computed."""

    line: int
    name: str
    is_global: bool
    attributes: list[str]


class Reading:
    """One code object, disassembled once."""

    def __init__(self, code: types.CodeType) -> None:
        self.code = code
        self.instructions = tuple(dis.get_instructions(code))
        self._inner: tuple[Reading, ...] | None = None

    @property
    def inner(self) -> tuple[Reading, ...]:
        """Of the functions and classes in it."""
        if self._inner is None:
            self._inner = tuple(Reading(one) for one in self.code.co_consts if isinstance(one, types.CodeType))
        return self._inner

    def uses(self) -> Iterator[Use]:
        """What it uses, in its order."""
        line, use = self.code.co_firstlineno, Use(0, "", False, [])
        for instruction in self.instructions:
            if instruction.positions is not None:
                line = instruction.positions.lineno or line
            if instruction.opname in _ATTRIBUTES:
                use.attributes.append(str(instruction.argval))
                continue
            if use.name or use.attributes:
                yield use
            use = Use(line, _loaded(instruction), instruction.opname in _GLOBALS, [])
        if use.name or use.attributes:
            yield use

    def all_uses(self) -> Iterator[Use]:
        """The same, with those of functions in it."""
        yield from self.uses()
        for inner in self.inner:
            yield from inner.all_uses()

    def stored(self) -> Iterator[str]:
        """The global names that it binds, functions in it too."""
        for instruction in self.instructions:
            if instruction.opname in ("STORE_NAME", "STORE_GLOBAL"):
                yield str(instruction.argval)
        for inner in self.inner:
            yield from inner.stored()

    def modules(self) -> Iterator[str]:
        """Those that it imports, whether or not a name of them is used."""
        return (str(one.argval) for one in self.instructions if one.opname == "IMPORT_NAME")

    def imports(self) -> Mapping[str, Imported]:
        """What the names stand for that it binds by imports."""
        found: dict[str, Imported] = {}
        module, part, before = "", "", ""
        for instruction in self.instructions:
            match instruction.opname:
                case "IMPORT_NAME":
                    module, part = str(instruction.argval) or ".", ""
                case "IMPORT_FROM":
                    part = str(instruction.argval)
                case "POP_TOP" if before != "SWAP":  # it drops the module; between `import a.b as c` and its store, a
                    module = ""
                case "IMPORT_STAR":
                    found["*"] = Imported("*")
                case "CALL_INTRINSIC_1" if "STAR" in instruction.argrepr:
                    found["*"] = Imported("*")
                case store if store.startswith("STORE_") and module:
                    value = instruction.argval
                    found[str(value[0] if isinstance(value, tuple) else value)] = _what(module, part)
                    module = module if part else ""
            before = instruction.opname
        return found


def _loaded(instruction: dis.Instruction) -> str:
    """The name that is on top of the stack after it, if it loads one; some load two."""
    if instruction.opname not in _GLOBALS and not instruction.opname.startswith(_LOCALS):
        return ""
    value = instruction.argval
    return str(value[-1] if isinstance(value, tuple) else value)


def _what(module: str, part: str) -> Imported:
    """`import a.b` binds a; `import a.b as c` asks a for b first; `from a import b` asks a for b."""
    if not part:
        return Imported(module.partition(".")[0])
    return Imported(module) if module.endswith(f".{part}") else Imported(module, (part,))
