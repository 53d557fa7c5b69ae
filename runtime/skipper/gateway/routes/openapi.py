"""The OpenAPI document: the gateway's own routes, and an operation per function."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from skipper.gateway.access.policy import OPEN
from skipper.gateway.archive import TAR
from skipper.gateway.routes.responses import EVENTS, OF_ROUTES, answered, anywhere, refused
from skipper.spec import PRIORITIES, FunctionSpec, Mode
from skipper.tasks.documents import ACCEPTED_SCHEMA, TASK_SCHEMA
from skipper.values import forms

PROBLEM_SCHEMA = {
    "title": "Problem",
    "description": "What went wrong (RFC 9457).",
    "type": "object",
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "errors": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {"pointer": {"type": "string"}, "detail": {"type": "string"}},
            },
        },
    },
    "required": ["type", "title", "status", "detail"],
}
_TEXT = {"type": "string"}
_SECURITY = {
    "bearer": {"type": "http", "scheme": "bearer"},
    "key": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
}
_PRIORITY = {"type": "integer", "minimum": PRIORITIES[0], "maximum": PRIORITIES[-1]}
_HEADERS: dict[str, tuple[str, dict[str, Any]]] = {
    "Prefer": (
        "`respond-async` for a task, `wait=20` for a task whose result is answered within 20 s",
        _TEXT,
    ),
    "Idempotency-Key": ("Of a task: the same key and body give the same task", _TEXT),
    "X-Skipper-Sticky": (
        "Who calls: the same version of a model answers them where several do",
        {"type": "string", "maxLength": 255},
    ),
    "X-Skipper-Priority": ("Of a task: the higher, the sooner it starts", _PRIORITY),
    "X-Skipper-Delay": ("A task that starts no sooner than after `90`, `90s` or `5m`", _TEXT),
    "X-Skipper-Expires": (
        "A task that ends `expired` where nobody has started it this long after it might start",
        _TEXT,
    ),
}
_FAILED = {
    "title": "Failed item",
    "type": "object",
    "properties": {"error": {"type": "object"}},
    "required": ["error"],
}
_REFUSALS = {
    "400": "The body is not JSON, or a header or how the request is framed cannot be understood",
    "404": "There is no such function",
    "406": "The value cannot be had in a type that is accepted",
    "409": "It was cancelled",
    "413": "The body is too large",
    "415": "The function takes no body of this type",
    "422": "The body does not match the schema, or the key was used with another",
    "500": "The function raised",
    "502": "The process that ran it died",
    "503": "It cannot be served at the moment",
    "504": "Its deadline passed",
    "507": "There is no room for the body",
    "508": "Functions called each other too deep",
}
_BINARY = {"type": "string", "format": "binary"}
_UPLOAD = {
    "tags": ["files"],
    "summary": "Upload a file, for calls to name",
    "operationId": "upload_file",
    "parameters": [
        {
            "name": "name",
            "in": "query",
            "required": False,
            "description": "What the file is called",
            "schema": {"type": "string"},
        }
    ],
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "properties": {"file": _BINARY, "name": _TEXT},
                    "required": ["file"],
                }
            },
            "*/*": {"schema": _BINARY},
        },
    },
}
_IMPORT = {
    "tags": ["models"],
    "summary": "Import a version that was exported, as the next of its model",
    "operationId": "import_model",
    "parameters": [
        {
            "name": "name",
            "in": "query",
            "required": False,
            "description": "Of which model; as the file says, if not given",
            "schema": {"type": "string"},
        }
    ],
    "requestBody": {"required": True, "content": {TAR: {"schema": _BINARY}}},
}


def document(
    base: dict[str, Any], functions: Iterable[FunctionSpec], *, needs_key: bool = False
) -> dict[str, Any]:
    """``base`` with the functions' operations added, and how to show a key where one is needed."""
    whole = json.loads(json.dumps(base))
    schemas = whole.setdefault("components", {}).setdefault("schemas", {})
    schemas["Problem"], schemas["Task"] = PROBLEM_SCHEMA, TASK_SCHEMA
    schemas["AcceptedTask"] = ACCEPTED_SCHEMA
    common = anywhere(needs_key=needs_key)
    whole["paths"]["/v1/files"] = {"post": dict(_UPLOAD)}
    whole["paths"].setdefault("/v1/models", {})["post"] = dict(_IMPORT)
    for path, operations in whole["paths"].items():
        for method, operation in operations.items():
            operation["responses"] = common | OF_ROUTES[method, path]
    for spec in functions:
        operation = _operation(spec, schemas)
        operation["responses"] = common | operation["responses"]
        whole["paths"][f"/v1/functions/{spec.name}/invoke"] = {"post": operation}
    if needs_key:
        whole["components"]["securitySchemes"] = _SECURITY
        whole["security"] = [{name: []} for name in _SECURITY]
        for path in OPEN & whole["paths"].keys():
            whole["paths"][path]["get"]["security"] = []
    schemas.pop("HTTPValidationError", None)
    schemas.pop("ValidationError", None)
    return dict(whole)


def _operation(spec: FunctionSpec, schemas: dict[str, Any]) -> dict[str, Any]:
    name = spec.name
    given = _adopt(spec.input_schema, f"{name}.", schemas)
    value = _adopt(spec.output_schema, f"{name}.value.", schemas)
    if spec.streams:
        value = {"type": "array", "items": value}
    if spec.batch > 1 and "items" not in given.get("properties", {}):
        given, value = _or_many(given, given), _or_many(value, {"anyOf": [value, _FAILED]})
    is_task = spec.mode is Mode.TASK
    responses = {
        "200": answered("The value", value),
        "202": answered("Accepted as a task", {"$ref": "#/components/schemas/AcceptedTask"}),
    } | {status: refused(text) for status, text in _REFUSALS.items()}
    responses["200"]["content"] |= _streamed(spec) | _given(spec)
    return {
        "tags": [f"functions: {spec.kind}"],
        "summary": spec.summary or name,
        "description": spec.description
        + ("\n\nA plain call is answered with a task." if is_task else ""),
        "operationId": name,
        "parameters": [
            {
                "name": name,
                "in": "header",
                "required": False,
                "description": text,
                "schema": schema,
            }
            for name, (text, schema) in _HEADERS.items()
        ],
        "requestBody": {
            "required": bool(spec.input_schema.get("required")),
            "content": {"application/json": {"schema": given}, **_taken(spec, schemas)},
        },
        "responses": responses,
    }


def _taken(spec: FunctionSpec, schemas: dict[str, Any]) -> dict[str, Any]:
    """What a body may be in place of JSON: a form with files, or the bytes of one parameter."""
    if not spec.takes and not spec.takes_many:
        return {}
    files: dict[str, Any] = dict.fromkeys(spec.takes, _BINARY)
    files |= {name: {"type": "array", "items": _BINARY} for name in spec.takes_many}
    # What is no file as it stands in JSON: of text, numbers and lists a field is a text.
    plain = {"properties": dict(forms.properties(spec.input_schema))}
    members = _adopt(plain, f"{spec.name}.", schemas)["properties"] | files
    form: dict[str, Any] = {"type": "object", "properties": members}
    form["required"] = [name for name in spec.input_schema.get("required", ()) if name in members]
    form["additionalProperties"] = False
    encoding = {name: {"contentType": ", ".join(reads)} for name, reads in spec.takes.items()}
    kinds = {kind for reads in spec.takes.values() for kind in reads}
    raw = {kind: {"schema": _BINARY} for kind in sorted(kinds)}
    return {"multipart/form-data": {"schema": form, "encoding": encoding}, **raw}


def _given(spec: FunctionSpec) -> dict[str, Any]:
    """The media types that the value can be had in beside JSON."""
    return {kind: {"schema": _BINARY} for kind in spec.gives if kind != "application/json"}


def _or_many(one: dict[str, Any], each: dict[str, Any]) -> dict[str, Any]:
    """``one``, or ``{"items": […]}`` of ``each``."""
    many = {
        "title": "Many items",
        "type": "object",
        "properties": {"items": {"type": "array", "items": each}},
        "required": ["items"],
        "additionalProperties": False,
    }
    return {"anyOf": [one, many]}


def _streamed(spec: FunctionSpec) -> dict[str, Any]:
    """What ``Accept`` may choose in place of a value: items as they come, or a task's life."""
    types = [EVENTS] if spec.mode is Mode.TASK or spec.streams else []
    if spec.streams:
        types += ["application/jsonl", "application/x-ndjson"]
    return {media_type: {"schema": _TEXT} for media_type in types}


def _adopt(schema: dict[str, Any], prefix: str, schemas: dict[str, Any]) -> dict[str, Any]:
    """A schema whose definitions have moved to the document's components, renamed apart."""

    def moved(value: Any) -> Any:
        if isinstance(value, str) and value.startswith("#/$defs/"):  # a $ref, or a mapping's
            return "#/components/schemas/" + prefix + value.removeprefix("#/$defs/")
        if isinstance(value, dict):
            return {key: moved(item) for key, item in value.items() if key != "$defs"}
        return [moved(item) for item in value] if isinstance(value, list) else value

    for name, definition in schema.get("$defs", {}).items():
        schemas[prefix + name] = moved(definition)
    adopted = moved(schema)
    assert isinstance(adopted, dict)
    return adopted
