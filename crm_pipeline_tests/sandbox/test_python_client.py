"""A client we did not write, over HTTPS with the sandbox org's own authority: simple_salesforce."""

from collections.abc import Iterator
from datetime import timedelta

import pytest
import requests
from simple_salesforce import Salesforce
from simple_salesforce.exceptions import (
    SalesforceExpiredSession,
    SalesforceMalformedRequest,
    SalesforceResourceNotFound,
)

from crm_pipeline.sandbox.salesforce.org import SandboxOrg
from crm_pipeline.sandbox.salesforce.running import RunningOrg, running

LEAD = {"LastName": "Doe", "Company": "Acme"}


@pytest.fixture(scope="module")
def served() -> Iterator[RunningOrg]:
    org = SandboxOrg()
    with running(org, tls=True) as running_org:
        yield running_org
    org.close()


@pytest.fixture
def salesforce(served: RunningOrg) -> Iterator[Salesforce]:
    with requests.Session() as session:
        session.trust_env = False  # an environment's CA bundle would win over `verify`
        session.verify = str(served.ca_file)
        token, host = _token(served, session)
        yield Salesforce(instance=host, session_id=token, session=session, version="60.0")


def _token(served: RunningOrg, session: requests.Session) -> tuple[str, str]:
    # The library appends .salesforce.com to every login domain, so the token is asked for here.
    form = {
        "grant_type": "client_credentials",
        "client_id": served.client_id,
        "client_secret": served.client_secret,
    }
    answer = session.post(f"{served.url}/services/oauth2/token", data=form).json()
    return answer["access_token"], answer["instance_url"].removeprefix("https://")


def test_it_describes_and_queries(salesforce: Salesforce, served: RunningOrg) -> None:
    served.org.create_many("Lead", [{**LEAD, "City": "Bulk"}] * 2100)
    assert salesforce.Lead.describe()["name"] == "Lead"
    assert any(one["name"] == "Lead" for one in salesforce.describe()["sobjects"])
    found = salesforce.query_all("SELECT Id, Owner.Name FROM Lead WHERE City = 'Bulk'")
    assert (found["totalSize"], found["done"], len(found["records"])) == (2100, True, 2100)
    assert salesforce.limits()["DailyApiRequests"]["Max"] == 1_000_000
    assert salesforce.api_usage["api-usage"].total == 1_000_000


def test_it_writes_single_rows(salesforce: Salesforce) -> None:
    lead = salesforce.Lead.create(LEAD)["id"]
    assert salesforce.Lead.update(lead, {"City": "Bonn"}) == 204
    assert salesforce.Lead.get(lead)["City"] == "Bonn"
    assert salesforce.Lead.upsert("External_Key__c/k1", LEAD) == 201
    assert salesforce.Lead.get_by_custom_id("External_Key__c", "k1")["LastName"] == "Doe"
    assert salesforce.Lead.delete(lead) == 204
    with pytest.raises(SalesforceResourceNotFound):
        salesforce.Lead.get(lead)


def test_it_reads_what_was_updated_and_deleted(salesforce: Salesforce, served: RunningOrg) -> None:
    lead = salesforce.Lead.create(LEAD)["id"]
    gone = salesforce.Lead.create(LEAD)["id"]
    salesforce.Lead.delete(gone)
    now = served.org.clock.now()
    window = (now - timedelta(minutes=5), now + timedelta(minutes=5))
    assert lead in salesforce.Lead.updated(*window)["ids"]
    deleted = salesforce.Lead.deleted(*window)["deletedRecords"]
    assert gone in [one["id"] for one in deleted]


def test_its_bulk_client_reads_every_page(salesforce: Salesforce, served: RunningOrg) -> None:
    served.org.create_many("Lead", [{**LEAD, "City": "Paged"}] * 30)
    pages = list(
        salesforce.bulk2.Lead.query(
            "SELECT Id, City FROM Lead WHERE City = 'Paged'", max_records=10, wait=0.01
        )
    )
    assert len(pages) == 3
    assert sum(page.count("Paged") for page in pages) == 30


def test_its_bulk_client_writes(salesforce: Salesforce, served: RunningOrg) -> None:
    bulk = salesforce.bulk2.Lead
    keys = [f"b{place}" for place in range(30)]
    rows = [{**LEAD, "External_Key__c": key, "City": "Bonn"} for key in keys]
    [result] = bulk.insert(records=rows, wait=0.01)
    assert (result["numberRecordsProcessed"], result["numberRecordsFailed"]) == (30, 0)
    good = bulk.get_successful_records(result["job_id"])
    assert good.startswith('"sf__Id","sf__Created"')
    lead = served.org.query("SELECT Id FROM Lead WHERE External_Key__c = 'b0'")[0]["Id"]
    bulk.update(records=[{"Id": lead, "City": "Ulm"}], wait=0.01)
    upserts = [{**row, "City": "Jena"} for row in rows[1:]] + [{"External_Key__c": "new"}]
    [result] = bulk.upsert(records=upserts, external_id_field="External_Key__c", wait=0.01)
    assert result["numberRecordsFailed"] == 1
    assert "REQUIRED_FIELD_MISSING" in bulk.get_failed_records(result["job_id"])
    cities = served.org.query("SELECT City FROM Lead WHERE External_Key__c LIKE 'b%'")
    assert sorted({row["City"] for row in cities}) == ["Jena", "Ulm"]
    [gone] = bulk.delete(records=[{"Id": lead}], wait=0.01)
    assert gone["numberRecordsFailed"] == 0
    assert bulk.get_unprocessed_records(gone["job_id"]) == '"Id"\n'


def test_it_makes_a_field_and_calls_composite(salesforce: Salesforce) -> None:
    metadata = {"label": "Visits", "type": "Number", "precision": 18, "scale": 0}
    body = {"FullName": "Lead.Visits__c", "Metadata": metadata}
    made = salesforce.toolingexecute("sobjects/CustomField", method="POST", data=body)
    assert made["success"] is True
    part = {
        "method": "POST",
        "url": "/services/data/v60.0/sobjects/Lead",
        "referenceId": "lead",
        "body": LEAD,
    }
    answer = salesforce.restful(
        "composite", method="POST", json={"compositeRequest": [part], "allOrNone": True}
    )
    assert answer["compositeResponse"][0]["httpStatusCode"] == 201


def test_it_understands_our_refusals(salesforce: Salesforce, served: RunningOrg) -> None:
    with pytest.raises(SalesforceMalformedRequest, match="INVALID_FIELD"):
        salesforce.query("SELECT Nope FROM Lead")
    with pytest.raises(SalesforceMalformedRequest, match="REQUIRED_FIELD_MISSING"):
        salesforce.Lead.create({"LastName": "Doe"})
    served.org.expire_sessions()
    with pytest.raises(SalesforceExpiredSession):
        salesforce.query("SELECT Id FROM Lead")
