"""``skipper functions`` and ``skipper models``: what is served, and what is stored."""

from __future__ import annotations

import json
import shlex
from typing import Annotated, Any

import typer

from skipper.cli.output import RED, info, neutral, paint, show, show_json, show_members, show_table
from skipper.cli.target import Json, Project, Url, target
from skipper.cli.verbs import ListByDefault

functions = typer.Typer(cls=ListByDefault, help="List and show functions.")

Name = Annotated[str, typer.Argument(metavar="NAME")]


@functions.command("list")
def list_functions(json_: Json = False, project: Project = None, url: Url = None) -> None:
    """List the functions that are served, and the files that do not load.

    \b
    Examples:
      skipper functions
      skipper functions list --json | jq -r '.items[].name'
    """
    with target(project, url).client() as client:
        document = client.get("/v1/functions")
    if json_:
        show_json(document)
        return
    names = ("name", "kind", "pool", "mode", "state", "file")
    rows = [[function.get(name) for name in names] for function in document["items"]]
    show_table([name.upper() for name in names], rows)
    for function in document["items"]:
        if function.get("problem"):
            line = f"✗ {neutral(function['name'])}  {neutral(function['problem'])}"
            show(paint(line, RED))
    for broken in document.get("broken", ()):
        show(broken_line(broken))
    if loading := document.get("loading"):
        info(f"Still reading {', '.join(map(str, loading))}.")


@functions.command("show")
def show_function(
    name: Name, json_: Json = False, project: Project = None, url: Url = None
) -> None:
    """Show one function: what it takes, where it stands, how to call it.

    \b
    Example:
      skipper functions show boston.predict
    """
    from skipper.client.flows import function_path

    where = target(project, url)
    with where.client() as client:
        document = client.get(function_path(name))
    if json_:
        show_json(document)
        return
    schema = document.get("input_schema") or {}
    hidden = ("input_schema", "output_schema", "description", "line", "limits")
    shown = document | {"file": f"{document.get('file')}:{document.get('line')}"}
    show_members((key, value) for key, value in shown.items() if key not in hidden)
    _show_input(schema)
    if limits := document.get("limits"):
        show("")
        rows = [[each["what"], each["value"], each["moved_by"]] for each in limits]
        show_table(("LIMIT", "", "MOVED BY"), rows)
    body = shlex.quote(json.dumps(example(schema, schema), ensure_ascii=False))
    show(f"\nskipper call{where.flags} {name} -d {body}")
    show(f"curl {where.curl(f'{function_path(name)}/invoke')} --json {body}")


def _show_input(schema: dict[str, Any]) -> None:
    """The members of the body, as a table; a body that has none to name as its type."""
    required = schema.get("required", ())
    rows = [
        [name, _type(member), "required" if name in required else _default(member)]
        for name, member in schema.get("properties", {}).items()
    ]
    show("")
    if rows:
        show_table(("INPUT", "TYPE", ""), rows)
    else:
        show(f"input: {_type(schema)}")


def _type(schema: dict[str, Any]) -> str:
    if "anyOf" in schema:
        return " or ".join(_type(option) for option in schema["anyOf"])
    if "$ref" in schema:
        return str(schema["$ref"]).rpartition("/")[2]
    of = f" of {_type(schema['items'])}" if schema.get("items") else ""
    return f"{schema.get('type', 'any')}{of}"


def _default(schema: dict[str, Any]) -> str:
    return f"default {schema['default']!r}" if "default" in schema else "optional"


_SAMPLES = {"number": 1.0, "integer": 1, "string": "text", "boolean": True, "null": None}


def example(schema: dict[str, Any], root: dict[str, Any], depth: int = 0) -> Any:
    """A value that fits ``schema``, near enough: what is required, as plain as can be."""
    if reference := schema.get("$ref"):
        schema = root.get("$defs", {}).get(str(reference).rpartition("/")[2], {})
    if depth > 5:  # a type that holds itself
        return None
    for name in ("const", "default"):
        if name in schema:
            return schema[name]
    for name in ("examples", "enum"):
        if schema.get(name):
            return schema[name][0]
    if options := schema.get("anyOf", schema.get("oneOf")):
        return example(options[0], root, depth + 1)
    if schema.get("type") == "array":
        return [example(schema.get("items", {}), root, depth + 1)]
    if "properties" not in schema:
        return _SAMPLES.get(str(schema.get("type")), {})
    required = schema.get("required", ())
    members = {name: each for name, each in schema["properties"].items() if name in required}
    return {name: example(each, root, depth + 1) for name, each in members.items()}


def broken_line(broken: dict[str, Any]) -> str:
    """A line about a file that does not load: where, why, often what to do."""
    where = ":".join(str(part) for part in (broken.get("file"), broken.get("line")) if part)
    hint = f" ({broken['hint']})" if broken.get("hint") else ""
    return paint(f"✗ {neutral(where)}  {neutral(str(broken.get('error')))}{neutral(hint)}", RED)
