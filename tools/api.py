"""Write docs/api.md from the code: `make docs`.

The page holds what authors of functions, clients and plugins are promised: every name of
``skipper.__all__`` and every hook, each with its signature and its docstring. A test compares the
page with what is made here.
"""

from __future__ import annotations

import ast
import inspect
import re
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, get_overloads

import skipper
from skipper import hookspecs
from skipper.function.options import Options

PAGE = Path(__file__).resolve().parent.parent / "docs" / "api.md"
HEAD = """\
# API reference

What authors of functions, clients and plugins are promised: the names of `skipper`, and the hooks.
Whatever else the package holds may move. Made from the code by `make docs`; do not edit it here.
"""
GROUPS = {
    "Functions": "data inference training Function Run Model Loaded load ItemError Cancelled",
    "Values": "File Array Image",
    "Clients": "connect Client TaskHandle TaskEvent AsyncClient AsyncTaskHandle",
    "Errors": "SkipperError CallError InvalidInputError FunctionError InstanceDiedError "
    "DeadlineError CancelledError NotFoundError UnavailableError NotConnectedError "
    "DefinitionError TooLargeError FormatError",
    "Plugins": "hook Project Source ValueType Content Written Format from_project",
}
"""Which names stand under which heading; :func:`page` wants each public name once."""

_CLIENT = (
    "call spawn map task functions models schedules run_schedule pause_schedule resume_schedule "
    "get close"
)
_HANDLE = "id function state status result cancel retry attempts events logs"
MEMBERS = {
    "Function": "remote aremote spawn map",
    "Run": "progress metric count observe log deadline cancelled task_id attempt request_id",
    "Client": _CLIENT,
    "AsyncClient": _CLIENT,
    "TaskHandle": _HANDLE,
    "AsyncTaskHandle": _HANDLE,
    "TaskEvent": "id type data",
    "SkipperError": "problem",
    "CallError": "",
    "File": "path name media_type size sha256",
    "Format": "saving loading",
}
"""What is promised of a class whose other members serve the runtime itself."""
MADE = (
    "Model Loaded File Array Image Written Client AsyncClient Source ItemError SkipperError "
    "FormatError Format"
)
"""The classes that authors make objects of; of the others, how they are made is no promise."""


def main() -> None:
    """Write the page."""
    PAGE.write_text(page(), encoding="utf-8")


def page() -> str:
    """The text of docs/api.md. Raises LookupError for a public name that has no heading."""
    grouped = [name for names in GROUPS.values() for name in names.split()]
    if sorted(grouped) != sorted(skipper.__all__):
        odd = sorted({*grouped} ^ {*skipper.__all__})
        raise LookupError(f"tools/api.py: give {odd or grouped} one heading each in GROUPS")
    parts = [HEAD]
    for heading, names in GROUPS.items():
        parts += [f"## {heading}\n", *map(entry, names.split())]
        if heading == "Functions":
            parts += [
                "### Options of the three decorators\n",
                *listed(Options, list(attributes(Options))),
            ]
    parts += ["## Hooks\n", *map(hook_entry, hook_names())]
    return "\n".join(parts)


def hook_names() -> list[str]:
    """The hooks, in the order in which they are declared."""
    return [name for name in vars(hookspecs) if name.startswith("skipper_")]


def entry(name: str) -> str:
    """One public name."""
    value = getattr(skipper, name)
    lines = [f"### `skipper.{name}`\n"]
    if calls := signatures(name, value):
        lines.append("```python\n" + "\n".join(calls) + "\n```\n")
    if isinstance(value, type) and issubclass(value, BaseException):
        lines.append(
            "A kind of " + " and ".join(f"`{base.__name__}`" for base in value.__bases__) + ".\n"
        )
    doc = inspect.getdoc(value) if callable(value) and name != "hook" else ""
    lines.append(markdown(doc or attributes(hookspecs)[name][1]) + "\n")
    if isinstance(value, type):
        members = MEMBERS.get(name, " ".join(attributes(value))).split()
        lines += listed(value, members)
    return "\n".join(lines)


def hook_entry(name: str) -> str:
    """One hook, as a plugin writes it."""
    function = getattr(hookspecs, name)
    text = f"@skipper.hook\ndef {name}{signature(function)}: ..."
    return f"### `{name}`\n\n```python\n{text}\n```\n\n{markdown(inspect.getdoc(function) or '')}\n"


def signatures(name: str, value: Any) -> list[str]:
    """How it is called: one line for each way; none of what nobody calls."""
    if name not in MADE.split() and not inspect.isfunction(value):
        return []
    return [f"skipper.{name}{signature(way)}" for way in get_overloads(value) or [value]]


def signature(function: Callable[..., Any], *, is_method: bool = False) -> str:
    """A signature with its annotations as they stand in the source, on any Python."""
    found = inspect.signature(function)
    parameters = list(found.parameters.values())[1 if is_method else 0 :]
    bare = [p.replace(annotation=p.empty, default=p.empty) for p in parameters]
    shape = str(found.replace(parameters=bare, return_annotation=found.empty))[1:-1]
    by_name = {p.name: _typed(p) for p in parameters}
    inner = re.sub(r"(?<=\*)\w+|\b\w+", lambda each: by_name[each.group()], shape)
    returns = "" if isinstance(function, type) else _annotation(found.return_annotation, " -> ")
    return f"({inner}){returns}"


def _typed(parameter: inspect.Parameter) -> str:
    text = parameter.name + _annotation(parameter.annotation, ": ")
    if parameter.default is parameter.empty:
        return text
    default = repr(parameter.default).replace("<factory>", "...")
    return f"{text} = {default}"


def _annotation(annotation: Any, before: str) -> str:
    if annotation is inspect.Signature.empty:
        return ""
    is_text = isinstance(annotation, str)
    return before + (annotation if is_text else inspect.formatannotation(annotation))


def listed(owner: type, members: list[str]) -> Iterator[str]:
    """A list of a class's members, with what is said of each."""
    given: dict[str, tuple[str, str]] = {}
    for each in reversed(owner.__mro__):
        given |= attributes(each)
    for name in members:
        shown, doc = _member(name, inspect.getattr_static(owner, name, None), given)
        text = textwrap.indent(markdown(doc), "  ").strip()
        yield f"- `{shown}`" + (f" — {text}" if text else "")
    if members:
        yield ""


def _member(name: str, value: Any, given: dict[str, tuple[str, str]]) -> tuple[str, str]:
    if inspect.isfunction(value):
        return name + signature(value, is_method=True), inspect.getdoc(value) or ""
    if isinstance(value, property):
        assert value.fget is not None
        type_ = _annotation(inspect.signature(value.fget).return_annotation, ": ")
        return name + type_, inspect.getdoc(value) or ""
    type_, doc = given[name]
    return f"{name}: {type_}" if type_ else name, doc


def attributes(owner: type | ModuleType) -> dict[str, tuple[str, str]]:
    """The public attributes that a class or module gives itself: the type, where it is written, and
    what is said of each.
    """
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(owner)))
    except (OSError, TypeError):  # a class of Python's own
        return {}
    whole = tree.body[0]
    body = whole.body if isinstance(whole, ast.ClassDef) else tree.body
    makers = [n.body for n in body if isinstance(n, ast.FunctionDef) and n.name == "__init__"]
    return {
        name: (type_, doc)
        for block in (body, *makers)
        for name, type_, doc in _attributes(block)
        if not name.startswith("_")
    }


def _attributes(block: list[ast.stmt]) -> Iterator[tuple[str, str, str]]:
    for statement, following in zip(block, [*block[1:], ast.Pass()], strict=True):
        match following:
            case ast.Expr(ast.Constant(str(text))):
                doc = inspect.cleandoc(text)
            case _:
                doc = ""
        match statement:
            case ast.AnnAssign(ast.Name(name) | ast.Attribute(ast.Name("self"), name), type_):
                yield name, ast.unparse(type_), doc
            case ast.Assign([ast.Name(name) | ast.Attribute(ast.Name("self"), name)]):
                yield name, "", doc


def markdown(doc: str) -> str:
    """A docstring in Markdown: its code and its references in backticks, its examples as blocks."""
    text = re.sub(r":\w+:`(?:~[\w.]*\.)?([\w.]+)`", r"`\1`", doc).replace("``", "`")
    return re.sub(r"::\n\n((?:(?: .*)?\n?)+)", _block, text).strip()


def _block(found: re.Match[str]) -> str:
    return f":\n\n```python\n{textwrap.dedent(found.group(1)).strip()}\n```\n\n"


if __name__ == "__main__":
    main()
