"""What the gateway tells of itself: functions, OpenAPI, docs, pools, metrics, health."""

from __future__ import annotations

import os
import re
import signal
from pathlib import Path
from typing import Any

import httpx

from tests.acceptance.events import metrics
from tests.acceptance.tree import Tree, until

REPOSITORY = Path(__file__).parents[2]


def test_a_function_is_described_as_its_file_declares_it(plain: Tree) -> None:
    told = plain.json("/v1/functions/bodies.add")
    limits = told.pop("limits")  # which a list leaves out
    assert {"what": "time of a direct call", "value": "60 s", "moved_by": "timeout="} in limits
    assert told == plain.function("bodies.add")
    assert (told["kind"], told["pool"], told["mode"]) == ("data", "cpu", "direct")
    assert told["summary"] == "Add two numbers."
    assert "ten unless" in told["description"]
    assert told["state"] == "live"
    assert told["file"] == "functions/bodies.py"
    assert told["input_schema"]["required"] == ["x"]
    assert told["input_schema"]["properties"]["y"]["default"] == 10
    assert told["output_schema"] == {"type": "integer"}
    assert plain.function("nest.elsewhere")["pool"] == "gpu"
    assert plain.function("nest.learn")["mode"] == "task"
    assert plain.function("lines.predict")["models"] == ["line"]
    assert plain.function("hold._stay") is None


def references(value: Any) -> set[str]:
    if isinstance(value, dict):
        own = {value["$ref"]} if isinstance(value.get("$ref"), str) else set()
        return own.union(*map(references, value.values()))
    return set().union(*map(references, value)) if isinstance(value, list) else set()


def test_openapi_has_an_operation_for_each_function(plain: Tree) -> None:
    document = plain.json("/openapi.json")
    assert document["openapi"].startswith("3.")
    functions = plain.json("/v1/functions")["items"]
    for function in functions:
        operation = document["paths"][f"/v1/functions/{function['name']}/invoke"]["post"]
        assert operation["requestBody"]["content"]["application/json"]["schema"]
        assert "schema" in operation["responses"]["200"]["content"]["application/json"]
        assert {"200", "202", "400", "404", "413", "415", "422", "500", "502", "503", "504"} <= set(
            operation["responses"]
        )
    ids = [
        operation["operationId"]
        for path in document["paths"].values()
        for operation in path.values()
    ]
    assert len(ids) == len(set(ids)) > len(functions)


def test_openapi_is_a_document_that_holds_together(plain: Tree) -> None:
    document = plain.json("/openapi.json")
    for reference in references(document):
        at: Any = document
        for part in reference.removeprefix("#/").split("/"):
            at = at[part.replace("~1", "/").replace("~0", "~")]
    for name in document["components"]["schemas"]:
        assert re.fullmatch(r"[A-Za-z0-9._-]+", name)
    for path, item in document["paths"].items():
        assert path.startswith("/")
        for operation in item.values():
            named = {p["name"] for p in operation.get("parameters", []) if p["in"] == "path"}
            assert named == set(re.findall(r"{(\w+)}", path))
            assert all(answer["description"] for answer in operation["responses"].values())


def test_openapi_carries_the_functions_own_schemas(plain: Tree) -> None:
    document = plain.json("/openapi.json")
    operation = document["paths"]["/v1/functions/bodies.both/invoke"]["post"]
    given = operation["requestBody"]["content"]["application/json"]["schema"]
    reference = given["properties"]["house"]["$ref"]
    house = document["components"]["schemas"][reference.rpartition("/")[2]]
    assert house["properties"]["rooms"]["exclusiveMinimum"] == 0
    operation = document["paths"]["/v1/functions/streams.count/invoke"]["post"]
    assert operation["responses"]["200"]["content"]["application/json"]["schema"] == {
        "type": "array",
        "items": {"type": "integer"},
    }


def test_the_documentation_needs_no_network(plain: Tree) -> None:
    page = plain.get("/docs")
    assert page.status_code == 200
    assert not re.findall(r"(?:https?:)?//[\w.]+", page.text)
    assets = re.findall(r'(?:src|href)="([^"]+)"', page.text)
    assert len(assets) >= 3
    for asset in assets:
        response = plain.get(str(httpx.URL(plain.url + "/docs").join(asset)))
        assert response.status_code == 200, asset
        assert response.content
    assert "openapi.json" in page.text


def test_pools_tell_what_they_have_and_do(plain: Tree) -> None:
    plain.value("bodies.add", {"x": 1})
    pools = {pool["pool"]: pool for pool in plain.json("/v1/pools")["items"]}
    assert set(pools) == {"cpu", "gpu"}
    for name, pool in pools.items():
        assert pool["reachable"] is pool["consumer"] is True
        assert pool["pid"] == plain.pids()[name]
        assert pool["slots"] >= 1
        assert pool["task_slots"] >= 1
        assert pool["templates"]
    serving = [i for i in pools["cpu"]["instances"] if i["lane"] == "direct"]
    (instance,) = (i for i in serving if i["function"] == "bodies.add")
    assert instance["code"] == plain.function("bodies.add")["code"]
    assert instance["memory_mb"] > 1


def samples(tree: Tree, family: str) -> dict[tuple[str, ...], float]:
    _, found = metrics(tree.get("/metrics").text)[family]
    return {tuple(v for k, v in labels.items() if k != "__name__"): n for labels, n in found}


def test_metrics_are_of_the_format_and_count(plain: Tree) -> None:
    response = plain.get("/metrics")
    assert response.headers["content-type"].startswith("text/plain; version=0.0.4")
    families = metrics(response.text)
    assert {
        "skipper_build_info",
        "skipper_calls_total",
        "skipper_call_duration_seconds",
        "skipper_tasks_total",
        "skipper_task_wait_seconds",
        "skipper_queue_depth",
        "skipper_instances",
        "skipper_cold_start_seconds",
        "skipper_reloads_total",
    } <= set(families)
    key = "bodies.add", "cpu", "ok"
    before = samples(plain, "skipper_calls_total").get(key, 0)
    tasks = samples(plain, "skipper_tasks_total").get(("work.adds", "cpu", "succeeded"), 0)
    for _ in range(3):
        plain.value("bodies.add", {"x": 1})
    plain.result(plain.submit("work.adds", {"x": 1}))
    assert samples(plain, "skipper_calls_total")[key] == before + 3
    after = samples(plain, "skipper_tasks_total")["work.adds", "cpu", "succeeded"]
    assert after == tasks + 1


def test_histograms_add_up(plain: Tree) -> None:
    plain.value("bodies.add", {"x": 1})
    _, found = metrics(plain.get("/metrics").text)["skipper_call_duration_seconds"]
    mine = [(labels, n) for labels, n in found if labels["function"] == "bodies.add"]
    buckets = [n for labels, n in mine if labels["__name__"].endswith("_bucket")]
    (count,) = (n for labels, n in mine if labels["__name__"].endswith("_count"))
    assert buckets == sorted(buckets)
    assert buckets[-1] == count >= 1
    assert mine[len(buckets) - 1][0]["le"] == "+Inf"


def test_labels_name_no_task_and_no_request(plain: Tree) -> None:
    task_id = plain.submit("work.adds", {"x": 1}, x_request_id="find-me-not")
    plain.ended(task_id)
    text = plain.get("/metrics").text
    assert task_id not in text
    assert "find-me-not" not in text


def test_the_page_on_rest_lists_every_path_and_no_other(plain: Tree) -> None:
    page = (REPOSITORY / "docs" / "rest.md").read_text("utf-8")
    rows = re.findall(r"^\| `([A-Z]+) (.*?) \|", page, re.MULTILINE)
    listed = {(method, path) for method, row in rows for path in re.findall(r"(/[^`?]+)", row)}
    served = {
        (method.upper(), re.sub(r"/functions/[\w.]+/invoke", "/functions/{name}/invoke", path))
        for path, operations in plain.json("/openapi.json")["paths"].items()
        for method in operations
    }
    assert listed == served


def test_health_tells_what_it_looked_at(plain: Tree) -> None:
    assert plain.get("/livez").text == "ok\n"
    assert plain.get("/readyz").text == "ready\n"
    lines = plain.get("/readyz?verbose").text.splitlines()
    assert lines[-1] == "ready"
    told = {"ledger", "broker", "scheduler", "pool cpu", "consumer gpu"}
    assert {f"[+]{name} ok" for name in told} <= set(lines)
    assert all(line.startswith("[+]") for line in lines[:-1])


def own(tree: Tree, name: str, function: str) -> float:
    """The sum of a function's series of this name; 0 where it has none."""
    found = metrics(tree.get("/metrics").text)
    family = name if name in found else re.sub("_(bucket|sum|count)$", "", name)
    _, series = found.get(family, ("", []))
    wanted = name, function
    return sum(n for one, n in series if (one["__name__"], one["function"]) == wanted)


def test_metrics_have_what_functions_count_of_calls_batches_and_tasks(plain: Tree) -> None:
    """https://github.com/Lightning-AI/LitServe/issues/339"""
    for words in (["a"], ["a", "b"]):
        plain.value("counted.answer", {"words": words})
    plain.value("counted.waits", {"x": 4})
    plain.value("counted.together", {"x": 1})
    assert plain.result(plain.submit("counted.learn", {"rows": 7})) == 7
    assert plain.invoke("counted.dies", {}).status_code == 500
    assert own(plain, "skipper_function_words_total", "counted.answer") == 3
    assert own(plain, "skipper_function_length_count", "counted.answer") == 2
    assert own(plain, "skipper_function_length_sum", "counted.answer") == 3
    assert own(plain, "skipper_function_words_total", "counted.waits") == 4
    assert own(plain, "skipper_function_items_total", "counted.together") == 1
    assert own(plain, "skipper_function_rows_total", "counted.learn") == 7
    assert own(plain, "skipper_function_begun_total", "counted.dies") == 1
    assert own(plain, "skipper_own_metrics_left_out_total", "counted.learn") == 3


def test_what_was_counted_outlives_the_process_that_counted_it(plain: Tree) -> None:
    name = "skipper_function_words_total", "counted.answer"
    before = own(plain, *name)
    first = plain.value("counted.answer", {"words": ["a"]})
    os.kill(first, signal.SIGKILL)
    until(lambda: first not in plain.instances("counted.answer"))
    plain.value("counted.answer", {"words": ["a", "b"]})
    assert own(plain, *name) == before + 3
