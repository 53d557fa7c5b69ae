"""What each of the gateway's own routes may answer, as its OpenAPI document says it."""

from __future__ import annotations

from typing import Any

from skipper.gateway.answers import PROBLEM_TYPE

Responses = dict[str, dict[str, Any]]

JSON, TEXT, EVENTS = "application/json", "text/plain", "text/event-stream"
_STRING = {"type": "string"}


def answered(text: str, schema: dict[str, Any], media_type: str = JSON) -> dict[str, Any]:
    """A response with a body."""
    return {"description": text, "content": {media_type: {"schema": schema}}}


def refused(text: str) -> dict[str, Any]:
    """A response with a problem document."""
    return answered(text, {"$ref": "#/components/schemas/Problem"}, PROBLEM_TYPE)


def anywhere(*, needs_key: bool) -> Responses:
    """What every request may be answered, whatever it asks for."""
    texts = {
        "400": "The request cannot be understood: a parameter, a header, how it is framed",
        "401": "It shows no key, or a wrong one",
        "403": "It comes from a page of another origin, or from another account of the machine",
        "408": "It has not come within its time",
        "413": "Its body is too large",
        "421": "Its Host is not served",
        "431": "Its head is too large",
        "500": "Skipper itself failed",
        "503": "It cannot be served at the moment, because a part is away or full",
    }
    return {code: refused(text) for code, text in texts.items() if needs_key or code != "401"}


def _object(*names: str) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": {name: {} for name in names},
        "required": list(names),
    }


def _list(item: dict[str, Any], *more: str) -> dict[str, Any]:
    whole = _object("items", *more)
    whole["properties"]["items"] = {"type": "array", "items": item}
    return whole


def _task(text: str) -> dict[str, Any]:
    return answered(text, {"$ref": "#/components/schemas/Task"})


_NONE, _GONE = refused("There is no such thing"), refused("It ended long ago, and is forgotten")
_THERE: Responses = {"404": _NONE, "410": _GONE}
_ENDED = {"409": refused("The task has ended, or has not, as it would have to")}
_ENDS: Responses = {
    "400": refused("The function's input was no JSON"),
    "404": refused("There is no such task, or its function was gone when it was to run"),
    "409": refused("The task was cancelled"),
    "410": _GONE,
    "422": refused("Its input did not match the function's schema"),
    "500": refused("The function raised"),
    "502": refused("The process that ran it died"),
    "503": refused("Its function could not be served, or the result cannot be had any more"),
    "504": refused("Its deadline passed, or it expired"),
    "508": refused("Functions called each other too deep"),
}
_ACCEPTED: Responses = {"202": _task("Accepted as a task")}
_ATTEMPT = _object(
    "number", "host", "instance", "started_at", "ended_at", "outcome", "error", "logs"
)
_FUNCTION = _object("name", "kind", "pool", "mode", "state", "input_schema", "output_schema")
_MODEL = _object("name", "version", "digest", "format", "metrics", "created_at", "state")
_VERSION = _object(
    *_MODEL["properties"], "params", "gate", "roles", "aliases", "libraries", "files"
)
_RECORD = _object(
    *("name", "revision", "production", "previous", "candidate", "percent", "shadow"),
    *("aliases", "at", "by", "why"),
)
_ETAG = {"ETag": {"description": "The revision, for If-Match", "schema": _STRING}}
_CHANGED: Responses = {
    "200": answered("The record, and `pending`, the pools that have yet to serve it", _RECORD)
    | {"headers": _ETAG},
    "404": refused("There is no such model"),
    "409": refused("If-Match is not the revision that holds; `deployment` is the record that does"),
    "412": refused("If-Match is missing where it must be, or no revision"),
    "422": refused("A version is unfit, removed or unknown, or cannot serve in this way"),
}
_SCHEDULE = _object("name", "function", "cron", "timezone", "state", "next_at", "last_at")
_WEBHOOK = _object("name", "origin", "events", "functions", "allow_private", "timeout_s")

_FILE = _object("id", "size", "media_type", "name", "sha256", "created_at", "expires_at")
_CONTENT = {"schema": {"type": "string", "format": "binary"}}
_BYTES = {"description": "The file", "content": {"*/*": _CONTENT}}

OF_ROUTES: dict[tuple[str, str], Responses] = {
    ("get", "/v1/functions"): {
        "200": answered("Functions", _list(_FUNCTION, "broken", "loading")),
    },
    ("get", "/v1/functions/{name}"): {"200": answered("The function", _FUNCTION), "404": _NONE},
    ("post", "/v1/files"): {
        "201": answered("The file, whose id calls may name", _FILE),
        "415": refused("It is encoded; the body is the file as it is"),
        "507": refused("There is no room for it"),
    },
    ("get", "/v1/files/{id}"): {
        "200": _BYTES,
        "206": _BYTES | {"description": "The part of the file that Range asks for"},
        "304": {"description": "It is what If-None-Match names"},
        "404": _NONE,
        "416": refused("Range asks for nothing that there is"),
    },
    ("get", "/v1/files/{id}/info"): {"200": answered("The file", _FILE), "404": _NONE},
    ("delete", "/v1/files/{id}"): {"204": {"description": "It is forgotten"}, "404": _NONE},
    ("get", "/v1/models"): {"200": answered("Models", _list(_MODEL, "next"))},
    ("post", "/v1/models"): {
        "201": answered("The version, which serves nobody yet", _MODEL),
        "415": refused("It is encoded; the body is the file as it is"),
        "422": refused("It is no such file, is damaged, or does not agree with itself"),
        "507": refused("There is no room for it"),
    },
    ("get", "/v1/models/{name}"): {
        "200": answered("The model's versions", _list(_MODEL, "name", "next")),
        "404": _NONE,
    },
    ("get", "/v1/models/{name}/versions/{version}"): {
        "200": answered("The version", _VERSION),
        "404": _NONE,
        "410": refused("It has been removed"),
    },
    ("get", "/v1/models/{name}/versions/{version}/archive"): {
        "200": answered("A tar: skipper-model.json, and files/…", _STRING, "application/x-tar"),
        "404": _NONE,
        "410": refused("It has been removed"),
        "503": refused("A file of it cannot be had any more"),
    },
    ("get", "/v1/models/{name}/deployment"): {
        "200": answered("The record", _RECORD) | {"headers": _ETAG},
        "404": _NONE,
    },
    ("put", "/v1/models/{name}/deployment"): _CHANGED,
    ("post", "/v1/models/{name}/promote"): _CHANGED,
    ("post", "/v1/models/{name}/rollback"): _CHANGED,
    ("get", "/v1/models/{name}/deployments"): {
        "200": answered("Records, the newest first", _list(_RECORD, "next")),
        "404": _NONE,
    },
    ("put", "/v1/models/{name}/aliases/{alias}"): _CHANGED,
    ("post", "/v1/models/{name}/gc"): {
        "200": answered("What went, who holds others", _object("removed", "held", "trial")),
        "404": _NONE,
    },
    ("delete", "/v1/models/{name}/aliases/{alias}"): _CHANGED,
    ("get", "/v1/pools"): {"200": answered("Pools", _list(_object("pool", "reachable")))},
    ("get", "/v1/tasks"): {
        "200": answered("Tasks", _list({"$ref": "#/components/schemas/Task"}, "next")),
    },
    ("get", "/v1/tasks/{id}"): {"200": _task("The task"), **_THERE},
    ("get", "/v1/tasks/{id}/result"): {
        "200": answered("The function's value", {}),
        "202": _task("The task, which has not ended"),
        "206": _BYTES | {"description": "The part of a stored value that Range asks for"},
        "406": refused("The value is of a type that is not accepted"),
        "416": refused("Range asks for nothing that there is"),
        **_ENDS,
    },
    ("get", "/v1/tasks/{id}/rescue"): {
        "200": answered("A tar of the files", _STRING, "application/x-tar"),
        **_THERE,
        "503": refused("A file of it cannot be had any more"),
    },
    ("get", "/v1/tasks/{id}/attempts"): {"200": answered("Attempts", _list(_ATTEMPT)), **_THERE},
    ("get", "/v1/tasks/{id}/logs"): {
        "200": answered("Lines", _list(_object("at", "attempt", "line"), "next", "dropped")),
        **_THERE,
    },
    ("get", "/v1/tasks/{id}/events"): {
        "200": answered("The task's life", _STRING, EVENTS),
        "204": {"description": "There is nothing after Last-Event-ID, and will be nothing"},
        **_THERE,
    },
    ("post", "/v1/tasks/{id}/cancel"): {
        "200": _task("The task, which is cancelled"),
        "202": _task("The task, which is being cancelled"),
        **_THERE,
        **_ENDED,
    },
    ("post", "/v1/tasks/{id}/retry"): {**_ACCEPTED, **_THERE, **_ENDED},
    ("get", "/v1/schedules"): {"200": answered("Schedules", _list(_SCHEDULE, "next"))},
    ("get", "/v1/schedules/{name}"): {"200": answered("The schedule", _SCHEDULE), "404": _NONE},
    ("post", "/v1/schedules/{name}/run"): {**_ACCEPTED, "404": _NONE},
    ("post", "/v1/schedules/{name}/pause"): {
        "200": answered("The schedule", _SCHEDULE),
        "404": _NONE,
    },
    ("post", "/v1/schedules/{name}/resume"): {
        "200": answered("The schedule", _SCHEDULE),
        "404": _NONE,
    },
    ("get", "/v1/webhooks"): {"200": answered("Webhooks", _list(_WEBHOOK))},
    ("post", "/v1/webhooks/{name}/test"): {**_ACCEPTED, "404": _NONE},
    ("get", "/livez"): {"200": answered("It lives", _STRING, TEXT)},
    ("get", "/readyz"): {
        "200": answered("Calls should be sent here", _STRING, TEXT),
        "503": {
            "description": "They should not, or the gateway takes no more",
            "content": answered("", _STRING, TEXT)["content"] | refused("")["content"],
        },
    },
    ("get", "/metrics"): {"200": answered("Metrics", _STRING, TEXT)},
}
"""By method and path. Beside these every route has the answers of :func:`anywhere`."""
