"""S5, S7, S8: what people and orgs write is a value, never a query, a path or code.

The payloads of M11: each is offered at every door, and the org's own parser and ledger say what was
asked.
"""

import json
import os
import random
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from itertools import product
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import pytest
import yaml

from crm_pipeline.config.environment import SalesforceFlow, read_environment, salesforce_login
from crm_pipeline.config.filters import parse_filter
from crm_pipeline.config.load import load_settings
from crm_pipeline.crm.port import ReadRequest
from crm_pipeline.crm.salesforce.connector import SalesforceConnector, login_of
from crm_pipeline.errors import ConfigurationError, CrmPipelineError, UsageError
from crm_pipeline.model.filters import Comparator, Comparison, RecordFilter
from crm_pipeline.sandbox.salesforce import soql_tree
from crm_pipeline.sandbox.salesforce.org import SandboxOrg
from crm_pipeline.sandbox.salesforce.running import RunningOrg, running
from crm_pipeline.sandbox.salesforce.soql import parse
from crm_pipeline_tests.integration.crm.asking import Connections

ROOT = Path(__file__).parents[2]
OPENINGS = (
    *(
        "",
        "x",
        "x'",
        "x\\'",
        "x\\\\'",
        "'",
        "\\",
        "x\u2019",
        "x\uff07",
        "x\u02bc",
        'x"',
        "%",
        "x')",
    ),
    *(
        "00Q8d0000000001AAA",
        "00Q8d0000000001AAA'",
        "Lead",
        "Name",
        "x\u2028",
        "x\n",
        "x\r\n",
        "x\0",
    ),
)
TURNS = (
    *(" OR Name != ", " OR '1'='1", ") OR (Name != '", " OR IsDeleted = true", " OR Id != null"),
    *(" AND Id IN (SELECT LeadId FROM CampaignMember)", ") OR Id IN (SELECT Id FROM User"),
    *(" UNION SELECT Password FROM User", " FROM User", ", (SELECT Id FROM Contacts)"),
    *(" LIMIT 0", " OFFSET 2000", " FOR UPDATE", " FOR VIEW", " ALL ROWS", " ORDER BY Id DESC"),
    *(" WITH SECURITY_ENFORCED", " USING SCOPE everything", " GROUP BY ROLLUP(Name)"),
    *(
        "; DROP TABLE lead",
        " /* ",
        " -- ",
        "//",
        "#",
        "{0}",
        "%s",
        "${HOME}",
        ":bind",
        "\\u0027 OR ",
    ),
)
ENDINGS = ("", "'", " --", ")", " '", "\\", "\u0000", "'--", "' AND Name LIKE '%")


def payloads(count: int) -> list[str]:
    """So many texts that try to be more than a value; the same ones each time."""
    every = ["".join(parts) for parts in product(OPENINGS, TURNS, ENDINGS)]
    return sorted(set(random.Random(5).sample(every, count)))


@pytest.fixture(scope="module")
def served() -> Iterator[RunningOrg]:
    org = SandboxOrg()
    org.create_many("Lead", [{"LastName": f"L{n}", "Company": f"C{n}"} for n in range(5)])
    org.create("Account", {"Name": "nobody asked for me"})
    with running(org) as running_org:
        yield running_org
    org.close()


@pytest.fixture(scope="module")
def connector(served: RunningOrg) -> Iterator[SalesforceConnector]:
    connections = Connections()
    yield connections.to(served)
    connections.close()


class Doors:
    """The places where a text of somebody else could become part of a query."""

    def __init__(self, served: RunningOrg, connector: SalesforceConnector, folder: Path) -> None:
        self.served = served
        self.connector = connector
        self.lead = connector.describe("Lead")
        self.file = folder / "crm_sync.yaml"
        self.walked_through = 0

    def asked(self, ask: Callable[[], object]) -> list[str]:
        """Run something that may be refused; the queries and paths that the org then saw."""
        before = len(self.served.server.ledger.entries())
        said = ""
        try:
            ask()
        except CrmPipelineError as error:
            said = str(error)
        assert said.isprintable(), "a refusal cannot forge a line"
        entries = self.served.server.ledger.entries()[before:]
        return [parse_qs(e.query).get("q", [e.path])[0] for e in entries]

    def count(self, condition: RecordFilter) -> int:
        return self.connector.count(
            ReadRequest(self.lead, ("Id",), condition, include_deleted=False)
        )

    def as_value(self, payload: str) -> None:
        """In quotes it is one value of one comparison, as the org's own parser reads it."""
        counted: list[int] = []
        asked = self.asked(
            lambda: counted.append(self.count(Comparison("Company", Comparator.EQUAL, payload)))
        )
        if not asked:
            return  # control characters have no way of being written
        query = parse(asked[0])
        assert len(asked) == 1
        assert str(query.object_name) == "Lead"
        assert isinstance(query.where, soql_tree.Comparison)
        assert query.where.value == soql_tree.Value("text", payload, query.where.value.pattern)
        assert query.limit is query.offset is None
        assert counted == [0]
        self.walked_through += 1

    def as_filter(self, payload: str) -> None:
        """Behind a condition it is refused, or it is a condition on the object's own fields."""
        for text in (f"Name = 'x' {payload}", f"Name = 'x{payload}", payload):
            try:
                tree = parse_filter(text)
            except ConfigurationError:
                continue
            for asked in self.asked(lambda tree=tree: self.count(tree)):  # type: ignore[misc]
                query = parse(asked)
                assert str(query.object_name) == "Lead"
                assert "Query(" not in repr(query.where), "no query within the query"

    def as_id(self, payload: str) -> None:
        """It is no id, and nothing is asked."""

        def ask() -> None:
            full = self.connector.full_id(payload)
            self.connector.count(ReadRequest(self.lead, ("Id",), record_ids=(full,)))

        assert self.asked(ask) == []
        with pytest.raises(CrmPipelineError):
            ask()
        request = ReadRequest(self.lead, ("Id",), record_ids=(payload,))
        assert self.asked(lambda: self.connector.count(request)) == []

    def as_object(self, payload: str) -> None:
        """It is no name: not in the settings, and not for the connector."""
        assert self.asked(lambda: self.connector.describe(payload)) == [] or payload.isidentifier()
        self.refused({payload: {"fields": ["Email"]}})

    def as_field(self, payload: str) -> None:
        """It is no field that describe shows."""
        request = ReadRequest(self.lead, ("Id", payload))
        assert self.asked(lambda: list(self.connector.open_read(request).pages())) == []
        path = f"Owner.{payload}"
        assert self.asked(lambda: self.connector.describe_path(self.lead, path)) == []
        self.refused({"Lead": {"fields": [payload]}})
        self.refused({"Lead": {"fields": [{"field": "Email", "column": payload}]}})
        self.refused({"Lead": {"fields": ["Email"], "table": payload}})

    def refused(self, objects: dict[str, Any]) -> None:
        self.file.write_text(yaml.safe_dump({"version": 1, "objects": objects}))
        with pytest.raises(ConfigurationError):
            load_settings(self.file)


@pytest.mark.parametrize("count", [300, pytest.param(1_000, marks=pytest.mark.long)])
@pytest.mark.parametrize("door", ["as_value", "as_filter", "as_id", "as_object", "as_field"])
def test_s5_no_text_becomes_a_query(
    served: RunningOrg, connector: SalesforceConnector, tmp_path: Path, door: str, count: int
) -> None:
    doors = Doors(served, connector, tmp_path)
    doors.connector.describe_path(doors.lead, "Owner.Name")  # its parents are known from now on
    for payload in payloads(count):
        if door != "as_object" or not payload.isidentifier():
            getattr(doors, door)(payload)
    if door == "as_value":
        assert doors.walked_through > count / 2, "most of them were asked, as values"
    objects = {e.path.split("/")[5] for e in served.server.ledger.entries() if "sobjects" in e.path}
    assert objects <= {"Lead", "User", "Group"}
    queries = [
        parse(parse_qs(e.query)["q"][0])
        for e in served.server.ledger.entries()
        if e.path.endswith(("/query", "/queryAll"))
    ]
    assert {str(query.object_name) for query in queries} <= {"Lead"}


PATHS = tuple(
    prefix + middle + name
    for prefix in ("../", "../../../", "/", "./", "~/", "file:///", "\\\\host\\", "..\\", "%2e%2e/")
    for middle in ("", "etc/", "proc/self/", "....//", "a/../../")
    for name in ("passwd", "environ", "x y.yaml", "a;touch b", "$(touch b)")
)


def test_s7_there_are_two_hundred_paths() -> None:
    assert len(set(PATHS)) >= 200


def key_from(path: str) -> None:
    """Log in by a key file, as far as that needs no network."""
    flow = salesforce_login(read_environment())
    assert flow is SalesforceFlow.JWT_BEARER
    login_of(read_environment()).form(datetime.now(UTC))


@pytest.mark.parametrize(
    ("variable", "use"),
    [
        ("CRM_PIPELINE_CONFIG", load_settings),
        ("CRM_PIPELINE_CONFIG", lambda _: load_settings(read_environment().config_file)),
        ("SALESFORCE_PRIVATE_KEY_FILE", key_from),
    ],
)
def test_s7_a_path_leads_to_a_file_of_the_right_kind_or_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str, use: Callable[[str], object]
) -> None:
    inside = tmp_path / "deep" / "below"
    inside.mkdir(parents=True)
    monkeypatch.chdir(inside)
    monkeypatch.setenv("SALESFORCE_CLIENT_ID", "app")
    monkeypatch.setenv("SALESFORCE_USERNAME", "integration@example.com")
    for path in PATHS:
        monkeypatch.setenv(variable, path)
        with pytest.raises(UsageError) as refused:
            use(path)
        said = str(refused.value)
        assert "root:" not in said, "no line of the file is repeated"
        assert said.isprintable()
    assert set(tmp_path.rglob("*")) == {inside.parent, inside}, "nothing was made"


@pytest.mark.parametrize(
    "content",
    [
        "SALESFORCE_CLIENT_SECRET=canary\n",
        "-----BEGIN PRIVATE KEY-----\ncanary\n-----END PRIVATE KEY-----\n",
        "root:canary:0:0:canary:/root:/bin/sh\n",
        "canary\n",
        "- canary\n",
        "client_secret: canary\n",
        '{"private_key": "canary"}',
        "a: [canary\n",
        "!!python/object/apply:os.system ['echo canary']\n",
    ],
)
def test_s7_a_wrong_file_is_refused_without_repeating_what_is_in_it(
    tmp_path: Path, content: str
) -> None:
    file = tmp_path / "wrong"
    file.write_text(content)
    with pytest.raises(ConfigurationError) as refused:
        load_settings(file)
    assert "canary" not in str(refused.value)


def test_s7_pipes_and_devices_and_folders_are_no_files(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", Path("/dev/zero"), tmp_path):
        with pytest.raises(ConfigurationError, match="not a regular file"):
            load_settings(path)


def test_s7_names_of_the_org_and_the_settings_are_no_paths(
    served: RunningOrg, connector: SalesforceConnector, tmp_path: Path
) -> None:
    doors = Doors(served, connector, tmp_path)
    for path in PATHS:
        doors.refused({path: {"fields": ["Email"]}})
        doors.refused({"Lead": {"fields": ["Email"], "table": path}})
        assert doors.asked(lambda path=path: connector.describe(path)) == []  # type: ignore[misc]
        # What an org calls its job: it stays one step of the path, or is not asked for.
        asked = doors.asked(lambda path=path: connector.forget(path))  # type: ignore[misc]
        assert all(one.startswith("/services/data/v62.0/jobs/query/") for one in asked)
        assert not any(".." in one for one in asked)


def test_s8_settings_are_read_by_a_loader_that_makes_plain_values_only(tmp_path: Path) -> None:
    file, proof = tmp_path / "crm_sync.yaml", tmp_path / "proof"
    for tag in (
        f"!!python/object/apply:os.system ['touch {proof}']",
        f"!!python/object/new:os.system ['touch {proof}']",
        "!!python/name:os.system",
        "&a [*a]",
    ):
        file.write_text(f"version: 1\nobjects: {tag}\n")
        with pytest.raises(ConfigurationError):
            load_settings(file)
    assert not proof.exists()


def test_s8_nothing_of_ours_unpickles_or_loads_yaml_with_code() -> None:
    lint = subprocess.run(
        [
            *(sys.executable, "-m", "ruff", "check", "--no-cache", "--isolated"),
            *("--output-format=json", "--select=S102,S301,S302,S307,S403,S506,S602,S604,S605"),
            *("crm_pipeline", "scripts"),
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert json.loads(lint.stdout) == []
