"""What code can reach: the names that it reads, binds or deletes, seen without running it. Pure.

A cell's syntax tree says which names it touches itself and whether it reads one before it binds it. A function's code
object says which globals it may use. Code that can touch any name (`eval`, `globals()`, a magic we do not know) is
*dynamic*: it reaches everything.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator
from types import CodeType

import msgspec

ANYWHERE_DYNAMIC = frozenset({"eval", "exec", "globals", "__main__", "_getframe", "stack", "currentframe"})
CELL_DYNAMIC = ANYWHERE_DYNAMIC | {"locals", "vars", "dir", "get_ipython", "__import__", "compile"}
HARMLESS_MAGICS = frozenset(
    """time timeit prun matplotlib pip conda uv cd pwd env set_env load_ext reload_ext config bash sh html HTML
    javascript js latex svg markdown writefile alias automagic colors system sx ls cat mkdir rm cp mv head tail
    capture precision xmode pdb pprint parallel namespace workers epochs gui lsmagic magic quickref
    log undo redo checkout diff replay
    pinfo pinfo2 psource pdoc pfile pdef""".split()
)
"""Magics that touch only names that their text spells."""
OUTPUT_CACHES = frozenset({"Out", "_oh"})
_IDENTIFIER = re.compile(r"[^\W\d]\w*")
_CALLS = frozenset({"run_line_magic", "run_cell_magic", "system", "getoutput", "magic"})
_LONGEST_TEXT = 4000


class Reach(msgspec.Struct):
    """Names by how the code meets them; `reads` are those read before the code itself binds them."""

    names: set[str] = msgspec.field(default_factory=set)
    reads: set[str] = msgspec.field(default_factory=set)
    bound: set[str] = msgspec.field(default_factory=set)
    hints: set[str] = msgspec.field(default_factory=set)
    """Identifiers in texts: `df.query("a > @limit")` reaches `limit`."""
    dynamic: bool = False
    stores: set[tuple[str, ...]] = msgspec.field(default_factory=set)
    """Dotted names of attributes that it assigns or deletes, in parts: `a.b.c = 1`."""
    imports: dict[str, str] = msgspec.field(default_factory=dict)
    """Names that it binds to modules, and which."""
    resizes: bool = False
    """It calls something's `resize`: numpy refuses that for an array that anyone refers to, if only weakly."""


def of_tree(nodes: Iterable[ast.stmt]) -> Reach:
    """What the statements reach."""
    visitor = _Visitor()
    for node in nodes:
        visitor.visit(node)
    return visitor.reach


def of_source(source: str) -> Reach:
    """What a text reaches; one that is no Python is dynamic."""
    try:
        return of_tree(ast.parse(source).body)
    except SyntaxError:
        return Reach(dynamic=True)


def of_code(code: CodeType) -> Reach:
    """What a function's code reaches, with the code inside it; attribute names count as names, which is harmless."""
    reach = Reach()
    for part in _codes(code):
        reach.names.update(part.co_names)
        for constant in part.co_consts:
            if isinstance(constant, str) and len(constant) <= _LONGEST_TEXT:
                reach.hints.update(_IDENTIFIER.findall(constant))
    reach.dynamic = not ANYWHERE_DYNAMIC.isdisjoint(reach.names)
    return reach


def of_annotations(annotations: object) -> set[str]:
    """Names in annotations that are texts: what asks for their values (`typing.get_type_hints`) looks them up."""
    if type(annotations) is not dict:
        return set()
    texts = (text for text in annotations.values() if isinstance(text, str) and len(text) <= _LONGEST_TEXT)
    return {name for text in texts for name in _IDENTIFIER.findall(text)}


def _codes(code: CodeType) -> Iterator[CodeType]:
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _codes(constant)


class _Visitor(ast.NodeVisitor):
    """Walks in the order of evaluation, so that it knows what is bound before it is read."""

    def __init__(self) -> None:
        self.reach = Reach()
        self._deferred = 0

    def visit_Name(self, node: ast.Name) -> None:
        name = node.id
        self.reach.names.add(name)
        if isinstance(node.ctx, ast.Load):
            self._read(name)
        elif (isinstance(node.ctx, ast.Store) and not self._deferred) or (
            isinstance(node.ctx, ast.Del) and not self._deferred
        ):
            self.reach.bound.add(name)

    def _read(self, name: str) -> None:
        if name in CELL_DYNAMIC:
            self.reach.dynamic = True
        if not self._deferred and name not in self.reach.bound:
            self.reach.reads.add(name)

    def visit_Attribute(self, node: ast.Attribute) -> None:
        self.reach.resizes |= node.attr == "resize"
        if not isinstance(node.ctx, ast.Load):
            self._stores(node.value, node.attr)
        self.generic_visit(node)

    def _stores(self, owner: ast.AST, attribute: str) -> None:
        path = _dotted(owner)
        if path:
            self.reach.stores.add((*path, attribute))

    def visit_Constant(self, node: ast.Constant) -> None:
        if isinstance(node.value, str) and len(node.value) <= _LONGEST_TEXT:
            self.reach.hints.update(_IDENTIFIER.findall(node.value))

    def visit_Assign(self, node: ast.Assign) -> None:
        self.visit(node.value)
        for target in node.targets:
            self.visit(target)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        self.reach.names.add("__annotations__")
        for part in (node.annotation, node.value, node.target):
            if part is not None:
                self.visit(part)

    def visit_AugAssign(self, node: ast.AugAssign) -> None:
        if isinstance(node.target, ast.Name):
            self.reach.names.add(node.target.id)
            self._read(node.target.id)
        self.visit(node.value)
        self.visit(node.target)

    def visit_For(self, node: ast.For | ast.AsyncFor) -> None:
        self.visit(node.iter)
        self.visit(node.target)
        for statement in [*node.body, *node.orelse]:
            self.visit(statement)

    visit_AsyncFor = visit_For

    def visit_Import(self, node: ast.Import | ast.ImportFrom) -> None:
        for alias in node.names:
            if alias.name == "*" or alias.name == "__main__":
                self.reach.dynamic = True
            self._bind(alias.asname or alias.name.partition(".")[0])
            if isinstance(node, ast.Import):
                self._imports(alias)
        if isinstance(node, ast.ImportFrom) and node.module == "__main__":
            self.reach.dynamic = True

    def _imports(self, alias: ast.alias) -> None:
        self.reach.imports[alias.asname or alias.name.partition(".")[0]] = (
            alias.name if alias.asname else alias.name.partition(".")[0]
        )

    visit_ImportFrom = visit_Import

    def _bind(self, name: str) -> None:
        self.reach.names.add(name)
        if not self._deferred:
            self.reach.bound.add(name)

    def visit_FunctionDef(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> None:
        for part in [*node.decorator_list, node.args, node.returns]:
            if part is not None:
                self.visit(part)
        self._later(node.body)
        self._bind(node.name)

    visit_AsyncFunctionDef = visit_FunctionDef

    def visit_Lambda(self, node: ast.Lambda) -> None:
        self.visit(node.args)
        self._later([node.body])

    def visit_ListComp(self, node: ast.ListComp | ast.SetComp | ast.GeneratorExp | ast.DictComp) -> None:
        """In the order of evaluation; the variables of a comprehension are its own."""
        bound = set(self.reach.bound)
        for part in node.generators:
            self.visit(part.iter)
            self.visit(part.target)
            for condition in part.ifs:
                self.visit(condition)
        for element in (node.key, node.value) if isinstance(node, ast.DictComp) else (node.elt,):
            self.visit(element)
        own = {n.id for part in node.generators for n in ast.walk(part.target) if isinstance(n, ast.Name)}
        self.reach.bound -= own - bound

    visit_SetComp = visit_GeneratorExp = visit_DictComp = visit_ListComp

    def _later(self, nodes: Iterable[ast.AST]) -> None:
        self._deferred += 1
        for node in nodes:
            self.visit(node)
        self._deferred -= 1

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        for part in [*node.decorator_list, *node.bases, *(k.value for k in node.keywords)]:
            self.visit(part)
        self._later(node.body)
        self._bind(node.name)

    def visit_Global(self, node: ast.Global) -> None:
        self.reach.names.update(node.names)

    def visit_ExceptHandler(self, node: ast.ExceptHandler) -> None:
        if node.name:
            self._bind(node.name)
        self.generic_visit(node)

    def visit_Call(self, node: ast.Call) -> None:
        texts = _magic_texts(node)
        if texts is None:
            match node:
                case ast.Call(ast.Name("setattr" | "delattr"), [owner, ast.Constant(str(attribute)), *_]):
                    self._stores(owner, attribute)
            self.generic_visit(node)
            return
        for text in texts:
            if "=" in text:
                inner = of_source(text)
                self.reach.stores |= inner.stores
                self.reach.imports |= inner.imports
            self.reach.names.update(_IDENTIFIER.findall(text))
            if not CELL_DYNAMIC.isdisjoint(_IDENTIFIER.findall(text)):
                self.reach.dynamic = True


def _dotted(node: ast.AST) -> tuple[str, ...]:
    """The parts of a dotted name; empty for any other expression."""
    parts: list[str] = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    return (node.id, *reversed(parts)) if isinstance(node, ast.Name) else ()


def _magic_texts(node: ast.Call) -> list[str] | None:
    """The texts of a call of a magic or the system that reaches only what they spell; None for any other call."""
    call = node.func
    if not (isinstance(call, ast.Attribute) and call.attr in _CALLS and isinstance(call.value, ast.Call)):
        return None
    shell = call.value.func
    texts = [a.value for a in node.args if isinstance(a, ast.Constant) and isinstance(a.value, str)]
    if not (isinstance(shell, ast.Name) and shell.id == "get_ipython") or len(texts) != len(node.args):
        return None
    if call.attr in {"run_line_magic", "run_cell_magic"}:
        return texts[1:] if texts and texts[0] in HARMLESS_MAGICS else None
    return texts if call.attr != "magic" else None
