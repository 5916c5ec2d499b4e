"""Clients we did not write read and write the sandbox org: jsforce and a Singer tap.

Optional (`pytest -m real_clients`): they are installed from their registries into a temporary
folder. Nothing of theirs is altered; the tap, which knows only login.salesforce.com, is led to
the sandbox by a redirect below its HTTP library, and both trust the sandbox's authority by the
setting each has for it.
"""

import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from crm_pipeline.sandbox.salesforce.org import SandboxOrg
from crm_pipeline.sandbox.salesforce.people import seed_org
from crm_pipeline.sandbox.salesforce.people_hostile import HOSTILE_TEXTS
from crm_pipeline.sandbox.salesforce.running import RunningOrg, running

pytestmark = [pytest.mark.real_clients, pytest.mark.timeout(900)]

RECORDS = 6_000
DELETED = 40
JSFORCE = "jsforce@^3.10.0"
SINGER_TAP = "tap-salesforce>=2.8,<3"

READING_SCRIPT = """
const jsforce = require('jsforce');
const { createHash } = require('crypto');
const digest = (rows) => {
  const lines = rows.map((row) => JSON.stringify([row.Id, row.Company, row.Description || null]));
  return createHash('sha256').update(lines.sort().join('\\n')).digest('hex');
};
const SOQL = 'SELECT Id, Company, Description FROM Lead';
(async () => {
  const login = { clientId: process.env.CLIENT_ID, clientSecret: process.env.CLIENT_SECRET,
                  loginUrl: process.env.LOGIN_URL };
  const conn = new jsforce.Connection({ oauth2: login, version: '61.0' });
  await conn.authorize({ grant_type: 'client_credentials' });
  const me = await conn.identity();
  const global = await conn.describeGlobal();
  const lead = await conn.sobject('Lead').describe();
  let page = await conn.query(SOQL);
  const rest = [...page.records];
  let pages = 1;
  while (!page.done) {
    page = await conn.queryMore(page.nextRecordsUrl);
    rest.push(...page.records);
    pages += 1;
  }
  conn.bulk2.pollInterval = 100;
  const bulk = await (await conn.bulk2.query(SOQL, { pollInterval: 100 })).toArray();
  const all = await conn.query('SELECT COUNT() FROM Lead', { scanAll: true });
  const nested = await conn.query(
    "SELECT Id, Owner.Name, Account.Owner.Name FROM Contact WHERE Account.Industry != null "
    + "ORDER BY LastName DESC NULLS LAST LIMIT 1500");
  console.log(JSON.stringify({
    version: conn.VERSION || jsforce.VERSION, user: me.user_id, objects: global.sobjects.length,
    fields: lead.fields.length, rest: rest.length, pages, bulk: bulk.length,
    restDigest: digest(rest), bulkDigest: digest(bulk), all: all.totalSize,
    nested: nested.records.length,
    owned: nested.records.filter((one) => one.Owner.Name && one.Account.Owner.Name).length,
  }));
})().catch((error) => { console.error(error); process.exit(1); });
"""

WRITING_SCRIPT = """
const jsforce = require('jsforce');
(async () => {
  const login = { clientId: process.env.CLIENT_ID, clientSecret: process.env.CLIENT_SECRET,
                  loginUrl: process.env.LOGIN_URL };
  const conn = new jsforce.Connection({ oauth2: login, version: '61.0' });
  await conn.authorize({ grant_type: 'client_credentials' });
  const texts = JSON.parse(process.env.TEXTS);
  const leads = conn.sobject('Lead');
  const made = await leads.create(
    texts.map((text, place) => ({
      LastName: `jsforce ${place}`, Company: 'jsforce', Description: text })),
    { allOrNone: true });
  await leads.update({ Id: made[0].id, Rating: 'Hot' });
  const upserted = await leads.upsert(
    { External_Key__c: 'jsforce-1', LastName: 'Upserted', Company: 'jsforce' },
    'External_Key__c');
  await leads.upsert({ External_Key__c: 'jsforce-1', Rating: 'Cold' }, 'External_Key__c');
  await leads.destroy(made[1].id);
  let refusal = null;
  try { await leads.create({ LastName: 'No company' }); }
  catch (error) { refusal = error.errorCode || error.name; }
  console.log(JSON.stringify({
    made: made.map((one) => one.id), upserted: upserted.success, refusal }));
})().catch((error) => { console.error(error); process.exit(1); });
"""

REDIRECT = """
import os
from requests.adapters import HTTPAdapter

_LOGIN = "https://login.salesforce.com"
_send = HTTPAdapter.send


def _redirected(self, request, **options):
    if request.url.startswith(_LOGIN):
        request.url = os.environ["SANDBOX_LOGIN"] + request.url[len(_LOGIN):]
    return _send(self, request, **options)


HTTPAdapter.send = _redirected
"""


@pytest.fixture(scope="module", autouse=True)
def _asked_for(request: pytest.FixtureRequest) -> None:
    if "real_clients" not in (request.config.getoption("-m") or ""):
        pytest.skip("installs clients from their registries; ask for it with -m real_clients")


@pytest.fixture(scope="module")
def org() -> Iterator[SandboxOrg]:
    sandbox = SandboxOrg()
    seed_org(sandbox, records=RECORDS)
    for row in sandbox.query(f"SELECT Id FROM Lead WHERE Rating = 'Cold' LIMIT {DELETED}"):
        sandbox.delete("Lead", row["Id"])
    yield sandbox
    sandbox.close()


@pytest.fixture(scope="module")
def node_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if shutil.which("npm") is None:
        pytest.skip("npm is not installed")
    folder = tmp_path_factory.mktemp("node")
    command = ["npm", "install", "--prefix", str(folder), "--no-audit", "--no-fund", JSFORCE]
    _run(command, {}, folder)
    return folder


@pytest.fixture(scope="module")
def tap(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tap")
    _run([sys.executable, "-m", "venv", str(folder)], {}, folder)
    _run([str(folder / "bin" / "pip"), "install", "--quiet", SINGER_TAP], {}, folder)
    redirect = folder / "redirect"
    redirect.mkdir()
    (redirect / "sitecustomize.py").write_text(REDIRECT)
    return folder


def _run(command: list[str], extra: dict[str, str], folder: Path) -> str:
    done = subprocess.run(
        command,
        env={**os.environ, **extra},
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4_000:]
    return done.stdout


def _node(folder: Path, script: str, served: RunningOrg, **extra: str) -> dict[str, Any]:
    file = folder / "script.js"
    file.write_text(script)
    environment = {
        "CLIENT_ID": served.client_id,
        "CLIENT_SECRET": served.client_secret,
        "LOGIN_URL": served.url,
        "NODE_EXTRA_CA_CERTS": str(served.ca_file or ""),
        **extra,
    }
    answer = json.loads(_run(["node", str(file)], environment, folder).splitlines()[-1])
    print(json.dumps(answer))  # noqa: T201 - what a real client saw, for the report
    return dict(answer)


def _digest(org: SandboxOrg) -> str:
    """The same digest as the script's, from the org's own rows."""
    rows = org.query("SELECT Id, Company, Description FROM Lead")
    lines = [
        json.dumps(
            [one["Id"], one["Company"], one["Description"]],
            ensure_ascii=False,
            separators=(",", ":"),
        )
        for one in rows
    ]
    return hashlib.sha256("\n".join(sorted(lines)).encode()).hexdigest()


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_jsforce_reads_the_same_records_by_rest_and_by_bulk(
    org: SandboxOrg, node_folder: Path, scheme: str
) -> None:
    with running(org, tls=scheme == "https") as served:
        seen = _node(node_folder, READING_SCRIPT, served)
    leads, contacts = org.count("Lead"), org.count("Contact")
    assert (seen["rest"], seen["bulk"]) == (leads, leads)
    assert leads > 2_000
    assert seen["pages"] == -(-leads // 2_000)
    assert seen["restDigest"] == seen["bulkDigest"] == _digest(org)
    assert seen["all"] == org.count("Lead", include_deleted=True) == leads + DELETED
    assert seen["nested"] == seen["owned"]
    assert 0 < seen["nested"] <= contacts
    assert seen["objects"] == len(org.catalogue.all())
    assert seen["fields"] == len(org.catalogue.object("Lead").fields)
    assert seen["user"] == org.user_id


def test_jsforce_writes_what_the_org_then_holds(node_folder: Path) -> None:
    texts = [one for one in HOSTILE_TEXTS.values() if one.strip()]
    org = SandboxOrg()
    with running(org, tls=True) as served:
        seen = _node(node_folder, WRITING_SCRIPT, served, TEXTS=json.dumps(texts))
    held = [(org.get("Lead", one) or {})["Description"] for one in seen["made"]]
    assert held == texts
    assert (org.get("Lead", seen["made"][0]) or {})["Rating"] == "Hot"
    assert (org.get("Lead", seen["made"][1]) or {})["IsDeleted"] is True
    [upserted] = org.query("SELECT Rating FROM Lead WHERE External_Key__c = 'jsforce-1'")
    assert upserted == {"Rating": "Cold"}
    assert seen["refusal"] == "REQUIRED_FIELD_MISSING"


def _tap(tap: Path, served: RunningOrg, folder: Path, *arguments: str, **config: Any) -> str:
    settings = {
        "client_id": served.client_id,
        "client_secret": served.client_secret,
        "refresh_token": served.org.sessions.grant_refresh(served.client_id, served.org.user_id),
        "start_date": "2000-01-01T00:00:00Z",
        "api_type": "REST",
        "select_fields_by_default": True,
        **config,
    }
    file = folder / "config.json"
    file.write_text(json.dumps(settings))
    environment = {
        "PYTHONPATH": str(tap / "redirect"),
        "SANDBOX_LOGIN": served.url,
        "REQUESTS_CA_BUNDLE": str(served.ca_file),
    }
    command = [str(tap / "bin" / "tap-salesforce"), "--config", str(file), *arguments]
    return _run(command, environment, folder)


def _selected(catalog: dict[str, Any], name: str) -> dict[str, Any]:
    """The catalog with one stream chosen and told to replicate by its stamp."""
    for stream in catalog["streams"]:
        top = next(one for one in stream["metadata"] if not one["breadcrumb"])["metadata"]
        top["selected"] = stream["stream"] == name
        if top["selected"]:
            top["replication-method"] = "INCREMENTAL"
            top["replication-key"] = top["valid-replication-keys"][0]
    return catalog


def _messages(output: str) -> Iterator[dict[str, Any]]:
    return (json.loads(line) for line in output.splitlines())


def test_a_singer_tap_discovers_and_reads_every_lead_deleted_ones_too(
    org: SandboxOrg, tap: Path, tmp_path: Path
) -> None:
    with running(org, tls=True) as served:
        catalog = json.loads(_tap(tap, served, tmp_path, "--discover"))
        chosen = tmp_path / "catalog.json"
        chosen.write_text(json.dumps(_selected(catalog, "Lead")))
        messages = list(_messages(_tap(tap, served, tmp_path, "--properties", str(chosen))))
        records = {
            one["record"]["Id"]: one["record"] for one in messages if one["type"] == "RECORD"
        }
        state = tmp_path / "state.json"
        state.write_text(
            json.dumps([one for one in messages if one["type"] == "STATE"][-1]["value"])
        )
        again = _tap(tap, served, tmp_path, "--properties", str(chosen), "--state", str(state))
    assert {one["stream"] for one in catalog["streams"]} == {
        one.name for one in org.catalogue.all()
    }
    assert len(records) == org.count("Lead", include_deleted=True)
    assert sum(one["IsDeleted"] for one in records.values()) == DELETED
    for row in org.query("SELECT Id, Company, Description FROM Lead"):
        assert records[row["Id"]]["Company"] == row["Company"]
        assert records[row["Id"]]["Description"] == row["Description"]
    # The tap reads its last second again, and no more.
    later = [one for one in _messages(again) if one["type"] == "RECORD"]
    assert 0 < len(later) <= DELETED
    print(json.dumps({"streams": len(catalog["streams"]), "records": len(records)}))  # noqa: T201
