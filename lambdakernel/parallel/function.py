"""The body of a fan-out as a function, which Python runs faster: a local name is at a known place, and a module's in a
dictionary.

A name is local only where nobody can tell:
- The body assigns it, and nothing else does or deletes it; no function reads it, of the notebook or of the body.
- The body has surely bound it before it reads it; or there is a value, which the function then begins with.
- The body can ask for no name as a text, and for no frame. That is known of bodies that leave no trace (`stays`), and
  this is for no other.

When it returns, its names are in the namespace, as a module's would be; and when it raises, its process ends.
"""

from __future__ import annotations

import ast
from collections.abc import Collection, Iterable, Iterator, Sequence
from types import CodeType, FunctionType
from typing import Any, NamedTuple

from lambdakernel.parallel.reading import Reading

_LOCALS = "__lambdakernel_locals__"
_NAME = "<module>"
"""What tracebacks call it."""
_ODD = (ast.AnnAssign, ast.Match, ast.ClassDef, ast.AsyncFunctionDef, ast.TryStar)
_FUNCTIONS = (ast.FunctionDef, ast.Lambda)


class Function(NamedTuple):
    """A body that was compiled: the code, and the names whose value it begins with."""

    code: CodeType
    begins_with: tuple[str, ...]

    def run(self, live: dict[str, Any]) -> Any:
        """Run it in the namespace `live`; the value of its last expression, or None.

        Raises whatever the body raises.
        """
        function: Any = FunctionType(self.code, live, _NAME)
        last, found = function(locals, *(live[name] for name in self.begins_with))
        del found[_LOCALS]
        live.update(found)
        return last


def as_function(tree: ast.Module, filename: str, live: Collection[str], shared: Collection[str]) -> Function | None:
    """The body `tree` in a namespace that has the names `live`, where functions read the names `shared`; None if it is
    better run as a module."""
    nodes = [*ast.walk(tree)]
    if any(isinstance(node, _ODD) or getattr(node, "module", "") == "__future__" for node in nodes):
        return None
    stored = {*Reading(compile(tree, filename, "exec", dont_inherit=True)).stored()}
    otherwise = _bound_otherwise(nodes)
    own = stored - set(shared) - otherwise - _of_functions(nodes)
    met = _met_by(tree)
    own -= {name for name in own if name in met and name not in live}
    if not own:
        return None
    begins_with = tuple(sorted(own & met))
    return Function(_compiled(tree, filename, begins_with, (stored | otherwise) - own), begins_with)


def _compiled(tree: ast.Module, filename: str, begins_with: Sequence[str], not_local: Collection[str]) -> CodeType:
    statements = list(tree.body)
    last: ast.expr = ast.Constant(None)
    if statements and isinstance(expression := statements[-1], ast.Expr):
        last, _ = expression.value, statements.pop()
    found = ast.Call(ast.Name(_LOCALS, ast.Load()), [], [])
    head = [ast.Global(sorted(not_local))] if not_local else []
    names = [ast.arg(name) for name in (_LOCALS, *begins_with)]
    arguments = ast.arguments(posonlyargs=[], args=names, kwonlyargs=[], kw_defaults=[], defaults=[])
    body = [*head, *statements, ast.Return(ast.Tuple([last, found], ast.Load()))]
    whole = ast.Module([ast.FunctionDef("body", arguments, body, [])], [])
    ast.fix_missing_locations(whole)
    code = compile(whole, filename, "exec", dont_inherit=True)
    inner = next(one for one in code.co_consts if isinstance(one, CodeType))
    return inner.replace(co_name=_NAME, co_qualname=_NAME)


def _bound_otherwise(nodes: Iterable[ast.AST]) -> set[str]:
    """Names that are declared global, deleted, or bound in an expression or by a handler."""
    found: set[str] = set()
    for node in nodes:
        match node:
            case ast.Global(names=names) | ast.Nonlocal(names=names):
                found |= set(names)
            case ast.Name(id=name, ctx=ast.Del()) | ast.ExceptHandler(name=str(name)):
                found.add(name)
            case ast.NamedExpr(target=ast.Name(id=name)):
                found.add(name)
    return found


def _of_functions(nodes: Iterable[ast.AST]) -> set[str]:
    """Names in functions of the body: what is collected may be a function, and its names are the notebook's there."""
    functions = (node for node in nodes if isinstance(node, _FUNCTIONS))
    return {name for function in functions for name in _names(function)}


# -- what is read before it is surely bound


def _met_by(tree: ast.Module) -> set[str]:
    met: set[str] = set()
    _block(tree.body, frozenset(), met)
    return met


def _block(statements: Iterable[ast.stmt], sure: frozenset[str], met: set[str]) -> frozenset[str]:
    """What is surely bound after these statements, if `sure` is before; `met` learns what is read otherwise."""
    for statement in statements:
        sure = _statement(statement, sure, met)
    return sure


def _statement(statement: ast.stmt, sure: frozenset[str], met: set[str]) -> frozenset[str]:
    match statement:
        case ast.Assign(targets=targets, value=value):
            _reads(value, sure, met)
            for target in targets:
                sure = _target(target, sure, met)
        case ast.AugAssign(target=target, value=value):
            _reads(value, sure, met)
            met |= set(_names(target)) - sure
            sure |= {target.id} if isinstance(target, ast.Name) else frozenset()
        case ast.For(target=target, iter=values, body=body, orelse=orelse):
            _reads(values, sure, met)
            _block(body, _target(target, sure, met), met)
            _block(orelse, sure, met)
        case ast.While(test=test, body=body, orelse=orelse):
            _reads(test, sure, met)
            _block(body, sure, met)
            _block(orelse, sure, met)
        case ast.If(test=test, body=body, orelse=orelse):
            _reads(test, sure, met)
            return _block(body, sure, met) & _block(orelse, sure, met)
        case ast.With(items=items, body=body):
            for item in items:
                _reads(item.context_expr, sure, met)
                if item.optional_vars is not None:
                    sure = _target(item.optional_vars, sure, met)
            _block(body, sure, met)  # an error in it may be kept back
        case ast.Try(body=body, handlers=handlers, orelse=orelse, finalbody=last):
            for part in (body, *(handler.body for handler in handlers), orelse, last):
                _block(part, sure, met)
            for handler in handlers:
                if handler.type is not None:
                    _reads(handler.type, sure, met)
        case ast.Import(names=names) | ast.ImportFrom(names=names):
            sure |= {alias.asname or alias.name.partition(".")[0] for alias in names}
        case ast.FunctionDef(name=name):
            _reads(statement, sure, met)
            sure |= {name}
        case _:
            _reads(statement, sure, met)
    return sure


def _target(target: ast.expr, sure: frozenset[str], met: set[str]) -> frozenset[str]:
    """What is surely bound after an assignment to `target`."""
    met |= {one.id for one in ast.walk(target) if isinstance(one, ast.Name) and isinstance(one.ctx, ast.Load)} - sure
    return sure | {one.id for one in ast.walk(target) if isinstance(one, ast.Name) and isinstance(one.ctx, ast.Store)}


def _reads(node: ast.AST, sure: frozenset[str], met: set[str]) -> None:
    met |= set(_names(node)) - sure


def _names(node: ast.AST) -> Iterator[str]:
    return (one.id for one in ast.walk(node) if isinstance(one, ast.Name))
