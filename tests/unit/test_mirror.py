"""Who looks for the tests of a module finds them: in the mirror, or by the table below."""

from __future__ import annotations

import ast
from pathlib import Path

TESTS = Path(__file__).parents[1]
RUNTIME = TESTS.parent / "runtime" / "skipper"

ELSEWHERE = {
    "unit/cli/test_command.py": "cli/app cli/config cli/target cli/verbs",
    "unit/cli/test_models.py": "cli/deployments cli/model_diff",
    "unit/cli/test_call.py": "cli/follow cli/progress",
    "unit/cli/test_reads.py": "cli/functions cli/tasks cli/webhooks",
    "unit/test_client.py": "client/* errors",
    "unit/values/test_crossing.py": "values/builtin values/file values/installed values/marks "
    "values/opening values/types",
    "integration/test_files.py": "ledger/files ledger/parts tasks/files gateway/routes/files",
    "integration/test_broker_contract.py": "consumer/worker",
    "unit/function/test_run.py": "function/figures",
    "unit/gateway/http/test_connection.py": "gateway/http/exchange gateway/http/peer",
    "unit/gateway/http/test_connections.py": "gateway/http/refusals",
    "unit/gateway/test_invoke.py": "gateway/call_request gateway/parts",
    "unit/gateway/test_inputs.py": "gateway/members gateway/reception",
    "unit/gateway/test_stream.py": "gateway/item_stream",
    "unit/gateway/access/test_policy.py": "gateway/access/middleware gateway/access/hosts "
    "gateway/access/keys gateway/access/pages",
    "unit/gateway/routes/test_events.py": "gateway/context gateway/task_stream",
    "unit/gateway/routes/test_openapi.py": "gateway/routes/responses",
    "acceptance/test_gateways.py": "gateway/server",
    "acceptance/test_clients.py": "cli/files",
    "acceptance/test_against.py": "cli/check pool/inventory",
    "acceptance/test_documents.py": "gateway/routes/models "
    "gateway/routes/parameters gateway/routes/pools",
    "acceptance/test_shelf.py": "gateway/routes/imports gateway/routes/shelf tasks/keeping",
    "acceptance/test_deployments.py": "client/model_flows gateway/model_documents "
    "gateway/routes/deployments",
    "acceptance/test_tasks.py": "gateway/routes/tasks",
    "acceptance/test_schedules.py": "gateway/routes/schedules",
    "unit/instance/test_plugins.py": "hookspecs instance/faults",
    "unit/instance/test_runner.py": "instance/batch instance/calls instance/jobs instance/refusals",
    "unit/instance/test_checkpoints.py": "instance/publications instance/wishes",
    "acceptance/test_models.py": "gateway/archive",
    "unit/instance/test_named.py": "function/named",
    "acceptance/test_customers.py": "pool/named pool/wishes",
    "unit/instance/test_structure.py": "instance/classes instance/scalars",
    "unit/instance/test_model_files.py": "instance/models instance/provenance",
    "integration/test_templates.py": "instance/template pool/host",
    "integration/test_launcher.py": "launcher/*",
    "integration/test_ledger_contract.py": "ledger/*",
    "integration/test_ledger_stores.py": "ledger/events ledger/hosts ledger/retention",
    "integration/test_ledger_models.py": "ledger/deployments ledger/models",
    "integration/test_ledger_checkpoints.py": "ledger/checkpoints ledger/ownership",
    "integration/test_ledger_endings.py": "ledger/endings",
    "integration/test_ledger_schedules.py": "ledger/schedules scheduler/ticker",
    "integration/test_ledger_processes.py": "ledger/postgres ledger/sqlite",
    "unit/gateway/routes/test_metrics.py": "pool/metrics",
    "unit/pool/direct/test_lane.py": "pool/direct/*",
    "unit/pool/durable/test_recorder.py": "pool/durable/publications",
    "unit/pool/durable/test_lane.py": "pool/background pool/durable/attempt",
    "unit/pool/processes/test_instances.py": "pool/processes/instance pool/processes/process "
    "pool/processes/strays",
    "unit/pool/test_links.py": "pool/peers",
    "unit/pool/test_reload.py": "pool/reading",
    "acceptance/test_pools.py": "pool/answers pool/parts",
    "unit/pool/test_catalogue.py": "pool/processes/quarantine pool/processes/version",
    "acceptance/test_reload.py": "pool/watch",
    "unit/scheduler/test_scheduler.py": "scheduler/presence",
    "integration/test_pruning.py": "scheduler/pruning scheduler/shelves",
    "unit/settings/test_loading.py": "settings/annotations settings/handover settings/layers "
    "settings/schema",
    "unit/function/test_options.py": "spec",
    "unit/test_compatibility.py": "containment",
}
"""The tests of modules that have no file of their name: a module, or what is left of a folder."""
BESIDE = frozenset({"bench", "functions", "plugins", "tools"})
"""Folders of tests/unit that mirror other folders of the repository."""


def modules() -> list[str]:
    """The modules that do something: not the migrations, and not those that hold data alone."""
    files = [file for file in RUNTIME.rglob("*.py") if not file.name.startswith("__")]
    return sorted(
        file.relative_to(RUNTIME).with_suffix("").as_posix()
        for file in files
        if "migrations" not in file.parts and _does_something(ast.parse(file.read_bytes()))
    )


def _does_something(tree: ast.Module) -> bool:
    return any(isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) for node in ast.walk(tree))


def mirrored(module: str) -> Path:
    """Where its tests stand, if it has a file of its own."""
    path = Path(module)
    return TESTS / "unit" / path.parent / f"test_{path.name}.py"


LISTED = {module: test for test, listed in ELSEWHERE.items() for module in listed.split()}


def test_a_module_has_a_file_of_tests_or_its_place_in_the_table() -> None:
    lost = [
        module
        for module in modules()
        if not mirrored(module).exists()
        and not {module, f"{module.rpartition('/')[0]}/*"} & LISTED.keys()
    ]
    assert len(modules()) > 100
    assert not lost, (
        f"give {', '.join(lost)} a file in tests/unit, "
        "or a place in ELSEWHERE beside the file that holds its tests"
    )


def test_the_table_holds_what_is_there_and_nothing_that_has_tests_of_its_name() -> None:
    for module, test in LISTED.items():
        assert (TESTS / test).is_file(), f"{test} is gone: say where {module} is tested"
        there = RUNTIME / (module.removesuffix("/*") if module.endswith("/*") else f"{module}.py")
        assert there.exists(), f"{module} is gone: take it out of ELSEWHERE"
        assert not mirrored(module).exists(), f"{module} has tests of its name: take it out"


def test_every_folder_of_the_mirror_mirrors_one() -> None:
    folders = {file.parent.relative_to(TESTS / "unit") for file in TESTS.glob("unit/**/test_*.py")}
    odd = {
        str(folder)
        for folder in folders
        if not (RUNTIME / folder).is_dir() and folder.parts[0] not in BESIDE
    }
    assert not odd
