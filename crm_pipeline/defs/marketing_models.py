"""The models and seeds of dbt_marketing as assets, and dbt's tests as their checks.

One step builds them all, or the chosen ones, as `dbt build` would. In a differential it builds
nothing, and costs nothing, when no row of any table has changed in this run and no event has come
since the models were last built. Jobs that run often build without the tests, which take as long
again; the job check_models follows them once an hour.

Belongs here: what models and tests are in Dagster, and building them. Does not belong here: finding
and parsing the project (dbt_project.py), the SQL (dbt_marketing/).
"""

import json
import signal
import subprocess
from collections.abc import Iterable, Iterator, Mapping, Sequence
from os import environ
from typing import Any

import dagster as dg

from crm_pipeline.defs.dbt_project import DbtProject, connection_variables
from crm_pipeline.defs.failures import told_as_failure
from crm_pipeline.defs.metadata import OWNERS
from crm_pipeline.defs.names import (
    DIFFERENTIAL_SYNC,
    EVENTS_ASSET,
    LOAD_EVENTS,
    MARKETING_GROUP,
    MARKETING_POOL,
    MARKETING_STEP,
    RECONCILE,
    REFRESH,
)
from crm_pipeline.defs.resources import CrmResource, engine_run_id
from crm_pipeline.errors import PermanentError
from crm_pipeline.events.models_state import newest_event_not_built
from crm_pipeline.warehouse.connection import EVENTS_SCHEMA
from crm_pipeline.warehouse.ledger import outcomes_of

Node = Mapping[str, Any]
_Result = dg.MaterializeResult[Any] | dg.AssetCheckResult
_NOTHING_CHANGED = (
    "No row of any table has changed in this run, and no event has come, so the models stay as "
    "they are."
)
_MAY_HAVE_CHANGED_NOTHING = (DIFFERENTIAL_SYNC, RECONCILE, REFRESH, LOAD_EVENTS)
_BUILT = ("model", "seed")
_FAILED = ("error", "fail", "runtime error")


def build_marketing_models(project: DbtProject) -> dg.Definitions:
    """All models as one step; nothing where the operator wants no models."""
    nodes = project.manifest()
    keys = asset_keys(nodes)
    models = [node for node in nodes["nodes"].values() if node["unique_id"] in keys]
    if not models:
        return dg.Definitions()

    @dg.multi_asset(
        name=MARKETING_STEP,
        specs=[_spec(node, keys) for node in models],
        check_specs=[_check_spec(test, keys) for test in _tests(nodes, keys)],
        can_subset=True,
        pool=MARKETING_POOL,
        description="Builds and tests the marketing models.",
    )
    def dbt_marketing(context: dg.AssetExecutionContext, crm: CrmResource) -> Iterator[_Result]:
        results: Sequence[Node] = ()
        with told_as_failure(context):
            crm.begin(context)
            warehouse = crm.migrated_warehouse()
            if context.job_name in _MAY_HAVE_CHANGED_NOTHING and not (
                changed_rows(crm, engine_run_id(context))
                or newest_event_not_built(warehouse, project.schema)
            ):
                context.log.info(_NOTHING_CHANGED)
                return
            chosen = [
                n["name"] for n in models if keys[n["unique_id"]] in context.selected_asset_keys
            ]
            tests = [key.name for key in context.selected_asset_check_keys]
            results = (
                build_models(project, warehouse.url, chosen, is_tested=bool(tests))
                if chosen
                else run_models_tests(project, warehouse.url, tests)
            )
        yield from _told(results, nodes, keys)
        _require_success(results)

    return dg.Definitions(assets=[dbt_marketing])


def changed_rows(crm: CrmResource, run_id: str) -> bool:
    """Whether any row of any table is different since a run."""
    facts = ("inserted", "updated", "deleted")
    return any(row[fact] for row in outcomes_of(crm.warehouse(), run_id) for fact in facts)


def asset_keys(nodes: Node) -> dict[str, dg.AssetKey]:
    """By dbt's unique id: schema and name, so that a source is the asset of its table.

    Events and what they say of consent are written together: they are one asset.
    """
    models = {
        unique_id: dg.AssetKey([node["schema"], node["alias"]])
        for unique_id, node in nodes["nodes"].items()
        if node["resource_type"] in _BUILT
    }
    sources = {
        unique_id: dg.AssetKey(
            EVENTS_ASSET
            if node["schema"] == EVENTS_SCHEMA
            else [node["schema"], node["identifier"]]
        )
        for unique_id, node in nodes["sources"].items()
    }
    return {**models, **sources}


def _spec(node: Node, keys: Mapping[str, dg.AssetKey]) -> dg.AssetSpec:
    columns = [
        dg.TableColumn(name, facts.get("data_type") or "", facts.get("description"))
        for name, facts in node["columns"].items()
    ]
    return dg.AssetSpec(
        keys[node["unique_id"]],
        # A seed is made of nothing.
        deps=[keys[above] for above in node["depends_on"].get("nodes", ()) if above in keys],
        group_name=MARKETING_GROUP,
        description=node["description"],
        kinds={"dbt", "postgres", node["config"]["materialized"]},
        owners=OWNERS,
        skippable=True,
        metadata={
            "dagster/column_schema": dg.TableSchema(columns=columns),
            "dagster/relation_identifier": f"{node['schema']}.{node['alias']}",
        },
    )


def _tests(nodes: Node, keys: Mapping[str, dg.AssetKey]) -> list[Node]:
    return [
        node
        for node in nodes["nodes"].values()
        if node["resource_type"] == "test" and node.get("attached_node") in keys
    ]


def _check_spec(test: Node, keys: Mapping[str, dg.AssetKey]) -> dg.AssetCheckSpec:
    column = f" of {test['column_name']}" if test.get("column_name") else ""
    kind = (test.get("test_metadata") or {}).get("name", "test")
    return dg.AssetCheckSpec(
        test["name"],
        asset=keys[test["attached_node"]],
        description=test["description"] or f"dbt test {kind}{column}",
    )


def build_models(
    project: DbtProject, url: str, chosen: Sequence[str], *, is_tested: bool = True
) -> list[Node]:
    """Run `dbt build`, its output going where this step's output goes.

    Args:
        project: parsed.
        url: the warehouse's address.
        chosen: models and seeds, by name.
        is_tested: whether the tests of what is chosen are run as well.

    Returns:
        A result for every node; empty only if there was nothing to build.

    Raises:
        PermanentError: dbt ended before it had built anything.
    """
    left_out = ["unit_test"] if is_tested else ["unit_test", "test"]
    options = [word for kind in left_out for word in ("--exclude-resource-type", kind)]
    return _results(project, url, "build", [*options, "--select", *chosen])


def run_models_tests(project: DbtProject, url: str, chosen: Sequence[str]) -> list[Node]:
    """Run `dbt test`: nothing is built.

    Args:
        project: parsed.
        url: the warehouse's address.
        chosen: tests, by name.

    Returns:
        A result for every test.

    Raises:
        PermanentError: dbt ended before it had tested anything.
    """
    return _results(project, url, "test", ["--select", *chosen])


def _results(project: DbtProject, url: str, command: str, options: Sequence[str]) -> list[Node]:
    with project.target(command) as target:
        code = _run(
            [*project.command(command, target=target), *options],
            project.environment(connection_variables(url)),
        )
        file = target / "run_results.json"
        if not file.exists():
            raise PermanentError(
                f"dbt ended with code {code} before `dbt {command}` had done anything. What it said"
                " is under this step's output."
            )
        results: list[Node] = json.loads(file.read_bytes())["results"]
        return results


def _run(command: Sequence[str], variables: Mapping[str, str]) -> int:
    with subprocess.Popen(
        command, env={**environ, **variables}, stdin=subprocess.DEVNULL
    ) as process:
        try:
            return process.wait()
        except BaseException:
            # dbt then cancels the statements that are at work in the warehouse.
            process.send_signal(signal.SIGINT)
            process.wait()
            raise


def _told(
    results: Iterable[Node], nodes: Node, keys: Mapping[str, dg.AssetKey]
) -> Iterator[_Result]:
    """Models and seeds that were built, and tests that were run."""
    for result in results:
        node = nodes["nodes"].get(result["unique_id"])
        if node is None or result["status"] == "skipped":
            continue
        if node["resource_type"] in _BUILT and result["status"] == "success":
            yield dg.MaterializeResult(
                asset_key=keys[node["unique_id"]], metadata=_build_metadata(result)
            )
        elif node.get("attached_node") in keys:
            yield _check_result(node, result, keys)


def _build_metadata(result: Node) -> dict[str, Any]:
    facts: dict[str, Any] = {"seconds": round(result["execution_time"], 3)}
    answer = result.get("adapter_response") or {}
    rows = answer.get("rows_affected", -1)
    if rows >= 0:
        # A table that was made whole holds as many; into others only what differs was written.
        is_whole = answer.get("code") in {"SELECT", "CREATE TABLE AS"}
        facts["dagster/row_count" if is_whole else "rows_written"] = rows
    return facts


def _check_result(test: Node, result: Node, keys: Mapping[str, dg.AssetKey]) -> dg.AssetCheckResult:
    is_warning = test["config"]["severity"].lower() == "warn" or result["status"] == "warn"
    severity = dg.AssetCheckSeverity.WARN if is_warning else dg.AssetCheckSeverity.ERROR
    return dg.AssetCheckResult(
        asset_key=keys[test["attached_node"]],
        check_name=test["name"],
        passed=result["status"] == "pass",
        severity=severity,
        description=_without_values(result["message"]),
        metadata={"failing_rows": result["failures"] or 0},
    )


def _require_success(results: Iterable[Node]) -> None:
    failed = [r for r in results if r["status"] in _FAILED]
    if failed:
        told = "\n".join(f"{r['unique_id']}: {_without_values(r['message'])}" for r in failed)
        raise dg.Failure(
            description=f"dbt built what it could; this failed:\n{told}", allow_retries=False
        )


def _without_values(message: str | None) -> str:
    """What dbt says; of an error of the database one line, for the next one quotes values."""
    text = message or ""
    return text.partition("\n")[0] if "Database Error" in text else text
