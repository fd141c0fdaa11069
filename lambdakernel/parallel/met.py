"""Names of the notebook whose value a body may meet: those that it does not surely bind before it reads them. Pure."""

from __future__ import annotations

import ast

_TARGETS = (ast.Name, ast.Tuple, ast.List, ast.Starred, ast.expr_context)


def is_of_names(target: ast.AST) -> bool:
    """Whether an assignment to `target` binds names, and changes nothing else."""
    return all(isinstance(node, _TARGETS) for node in ast.walk(target))


def met_by(tree: ast.Module) -> set[str]:
    """Names that the body may read before it has bound them itself. Only a statement that is run for sure binds for
    sure: where one fails, the task has failed, too."""
    sure, met = set[str](), set[str]()
    for statement in tree.body:
        match statement:
            case ast.Assign(targets=targets, value=value):
                met |= _named(value) - sure
                for target in targets:
                    if is_of_names(target):
                        sure |= _named(target) - met
                    else:
                        met |= _named(target) - sure
            case ast.Import(names=names) | ast.ImportFrom(names=names):
                sure |= {alias.asname or alias.name.partition(".")[0] for alias in names} - met
            case ast.FunctionDef(name=name, decorator_list=[]):
                defaults = [*statement.args.defaults, *filter(None, statement.args.kw_defaults)]
                met |= set().union(*map(_named, defaults)) - sure
                sure |= {name} - met
                met |= _named(statement) - sure
            case _:
                met |= _named(statement) - sure
    return met


def loaded_by(tree: ast.Module) -> set[str]:
    """Names whose value the body may ask for: all but those that it only binds, such as the `_` of many a loop."""
    found = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Store)}
    added = (node.target for node in ast.walk(tree) if isinstance(node, ast.AugAssign))
    found |= {target.id for target in added if isinstance(target, ast.Name)}
    return found.union(*(node.names for node in ast.walk(tree) if isinstance(node, ast.Global)))


def _named(node: ast.AST) -> set[str]:
    """Every name in it, however it is used."""
    return {one.id for one in ast.walk(node) if isinstance(one, ast.Name)} | {
        name for one in ast.walk(node) if isinstance(one, ast.Global) for name in one.names
    }
