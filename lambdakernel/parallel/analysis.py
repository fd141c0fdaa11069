"""What the body of a `%%parallel` cell does with names, read from its syntax tree. Pure.

The body runs at the top level of a module, so what it binds outside functions, classes and comprehensions are
variables of its task; and `global x` inside a function makes one too.
"""

from __future__ import annotations

import ast
import io
import tokenize
from collections.abc import Iterator, Sequence

import msgspec

from lambdakernel.errors import LambdaKernelError


class Final(msgspec.Struct, frozen=True):
    """Collect the value that the name has when the body is through."""

    name: str


class LastValue(msgspec.Struct, frozen=True):
    """Collect the value of the body's last expression under the name."""

    name: str


Collect = Final | LastValue


class Body(msgspec.Struct, frozen=True):
    """The names that a body binds, those that it reads before it binds them, and whether it ends in an expression."""

    assigned: frozenset[str]
    read: frozenset[str]
    has_value: bool


class BadCollect(LambdaKernelError):
    """The names after `->` do not fit the body; nothing ran."""


def analyse(tree: ast.Module) -> Body:
    """What the statements of `tree` do. Cost: one walk."""
    walk = _Walk()
    for node in tree.body:
        walk.visit(node)
    has_value = bool(tree.body) and isinstance(tree.body[-1], ast.Expr)
    return Body(frozenset(walk.assigned), frozenset(walk.read), has_value)


def collects(names: Sequence[str], body: Body, bound: Sequence[str]) -> tuple[Collect, ...]:
    """How each of `names` is collected; `bound` are the names that the loop binds.

    Raises:
        BadCollect: a name has neither a final value nor the last expression's; says which and what to write.
    """
    known = body.assigned | frozenset(bound)
    others = [name for name in names if name not in known]
    if len(others) > 1:
        raise BadCollect(
            f"the body assigns none of {', '.join(others)}, and only one name after `->` can take the value of its"
            f" last expression. Assign {' and '.join(others[1:])} in the body, or leave the name out."
        )
    if others and not body.has_value:
        raise BadCollect(
            f"the body neither assigns {others[0]} nor ends in an expression, so there is nothing to collect."
            f" Assign {others[0]} in the body, or make its last line an expression."
        )
    return tuple(Final(name) if name in known else LastValue(name) for name in names)


class _Walk(ast.NodeVisitor):
    """Visits in the order of running, as far as the text shows it; branches count as taken."""

    def __init__(self) -> None:
        self.assigned: set[str] = set()
        self.read: set[str] = set()

    def visit_Name(self, node: ast.Name) -> None:
        if isinstance(node.ctx, ast.Load):
            self._reads(node.id)
        else:
            self.assigned.add(node.id)

    def _reads(self, name: str) -> None:
        if name not in self.assigned:
            self.read.add(name)

    def _values_first(self, node: ast.AST, *targets: ast.AST) -> None:
        for child in ast.iter_child_nodes(node):
            if child not in targets:
                self.visit(child)
        for target in targets:
            self.visit(target)

    def visit_Assign(self, node: ast.Assign) -> None:
        self._values_first(node, *node.targets)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        if node.value is not None or not isinstance(node.target, ast.Name):
            self._values_first(node, node.target)

    def visit_AugAssign(self, node: ast.AugAssign) -> None:
        if isinstance(node.target, ast.Name):
            self._reads(node.target.id)
        self._values_first(node, node.target)

    def visit_NamedExpr(self, node: ast.NamedExpr) -> None:
        self._values_first(node, node.target)

    def visit_For(self, node: ast.For | ast.AsyncFor) -> None:
        self.visit(node.iter)
        self.visit(node.target)
        for statement in [*node.body, *node.orelse]:
            self.visit(statement)

    visit_AsyncFor = visit_For

    def visit_Import(self, node: ast.Import | ast.ImportFrom) -> None:
        names = {alias.asname or alias.name.partition(".")[0] for alias in node.names}
        self.assigned |= names - {"*"}

    visit_ImportFrom = visit_Import

    def visit_ExceptHandler(self, node: ast.ExceptHandler) -> None:
        self.generic_visit(node)  # the name of the exception is unbound again at its end

    def visit_MatchAs(self, node: ast.MatchAs) -> None:
        self.generic_visit(node)
        self.assigned.update(filter(None, [node.name]))

    def visit_MatchStar(self, node: ast.MatchStar) -> None:
        self.assigned.update(filter(None, [node.name]))

    def visit_MatchMapping(self, node: ast.MatchMapping) -> None:
        self.generic_visit(node)
        self.assigned.update(filter(None, [node.rest]))

    # -- scopes of their own

    def visit_FunctionDef(self, node: ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) -> None:
        self._inner(node)
        self.assigned.add(node.name)

    visit_AsyncFunctionDef = visit_FunctionDef
    visit_ClassDef = visit_FunctionDef

    def visit_Lambda(self, node: ast.Lambda) -> None:
        self._inner(node)

    def visit_ListComp(self, node: ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp) -> None:
        self._inner(node)

    visit_SetComp = visit_ListComp
    visit_DictComp = visit_ListComp
    visit_GeneratorExp = visit_ListComp

    def _inner(self, node: ast.AST) -> None:
        """What a scope reads and does not bind itself; its `global` names and, from a comprehension, its `:=`."""
        own, declared = _bindings(node)
        shared = declared | (_walrus(node) if isinstance(node, _COMPREHENSIONS) else set())
        for child in ast.walk(node):
            if isinstance(child, ast.Name) and isinstance(child.ctx, ast.Load) and child.id not in own - shared:
                self._reads(child.id)
        self.assigned |= shared


_COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)


def _bindings(scope: ast.AST) -> tuple[set[str], set[str]]:
    """Names that a scope and those inside it bind, and those that it declares `global`."""
    own, declared = set[str](), set[str]()
    for node in ast.walk(scope):
        match node:
            case ast.Name(id=name, ctx=ast.Store() | ast.Del()):
                own.add(name)
            case ast.arg(arg=name):
                own.add(name)
            case ast.Global(names=names):
                declared.update(names)
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                if node is not scope:
                    own.add(name)
    return own, declared


def _walrus(scope: ast.AST) -> set[str]:
    return {node.target.id for node in ast.walk(scope) if isinstance(node, ast.NamedExpr)}


def notebook_syntax(source: str, transformed: str) -> Iterator[int]:
    """Lines (from 1) of `transformed` that only IPython can run: magics and shell commands."""
    before = source.split("\n")
    for number, line in enumerate(transformed.split("\n"), 1):
        if "get_ipython()" in line and (number > len(before) or line != before[number - 1]):
            yield number


def is_silent(source: str) -> bool:
    """Whether the last line ends in a semicolon: then a cell does not show its value."""
    last = ""
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type not in _NO_CODE:
            last = token.string
    return last == ";"


_NO_CODE = (tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER)
