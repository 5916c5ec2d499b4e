"""Pages that lie: wrong counts, lost and doubled records, short pages, ends that are none."""

import csv
import io
from collections.abc import Mapping
from typing import Any

import pytest
import requests

from crm_pipeline.sandbox.salesforce.org import SandboxOrg
from crm_pipeline_tests.sandbox.client import Client

LEAD = {"LastName": "Doe", "Company": "Acme"}
SOQL = "SELECT Id FROM Lead ORDER BY Id"
QUERIES, RESULTS = "*/data/v*/query*", "*/results"


@pytest.fixture
def leads(noon_org: SandboxOrg) -> list[str]:
    return noon_org.create_many("Lead", [LEAD] * 500)


def rest_pages(client: Client, batch: int = 200) -> list[Mapping[str, Any]]:
    options = {"Sforce-Query-Options": f"batchSize={batch}"}
    pages = [client.http.get(client.url + "/query", params={"q": SOQL}, headers=options).json()]
    while not pages[-1]["done"]:
        pages.append(client.http.get(client.served.url + pages[-1]["nextRecordsUrl"]).json())
    return pages


def bulk_pages(client: Client, size: int = 200, soql: str = SOQL) -> list[requests.Response]:
    job = client.finished_job(soql)
    found: list[requests.Response] = []
    locator = ""
    while locator != "null":
        more = {"locator": locator} if locator else {}
        answer = client.get(f"/jobs/query/{job['id']}/results", maxRecords=size, **more)
        assert answer.status_code == 200
        assert len(answer.content) == int(answer.headers.get("Content-Length", len(answer.content)))
        found.append(answer)
        locator = answer.headers["Sforce-Locator"]
    return found


def ids(page: Mapping[str, Any] | requests.Response) -> list[str]:
    if isinstance(page, requests.Response):
        return [row[0] for row in csv.reader(io.StringIO(page.text))][1:]
    return [row["Id"] for row in page["records"]]


def counts(page: requests.Response) -> int:
    return int(page.headers["Sforce-NumberOfRecords"])


@pytest.mark.parametrize("consistent", [False, True])
def test_records_are_dropped_from_any_page(
    client: Client, leads: list[str], *, consistent: bool
) -> None:
    drop = {"kind": "drop_records", "nth": 2, "records": 3, "consistent": consistent}
    client.fault(path=QUERIES, **drop)
    pages = rest_pages(client)
    assert [len(ids(page)) for page in pages] == [200, 197, 100]
    assert [page["totalSize"] for page in pages] == [500, 497 if consistent else 500, 500]
    client.fault(path=RESULTS, **drop)
    answers = bulk_pages(client)
    assert [len(ids(page)) for page in answers] == [200, 197, 100]
    assert [counts(page) for page in answers] == [200, 197 if consistent else 200, 100]
    assert ids(answers[1]) == ids(pages[1])


@pytest.mark.parametrize("instead", [False, True])
def test_records_come_twice_across_pages(
    client: Client, leads: list[str], *, instead: bool
) -> None:
    for path in (QUERIES, RESULTS):
        client.fault(kind="duplicate_records", path=path, nth=2, records=2, instead=instead)
    for pages in (rest_pages(client), bulk_pages(client)):
        second = ids(pages[1])
        assert second[:2] == leads[198:200]
        assert second[2:] == leads[200 : 398 if instead else 400]


def test_records_of_a_page_come_in_another_order(client: Client, leads: list[str]) -> None:
    for path in (QUERIES, RESULTS):
        client.fault(kind="shuffle_records", path=path, nth=1)
    for pages in (rest_pages(client), bulk_pages(client)):
        first = ids(pages[0])
        assert first != leads[:200]
        assert sorted(first) == leads[:200]


def test_pages_may_be_short_or_empty_and_not_the_last(client: Client, leads: list[str]) -> None:
    for path in (QUERIES, RESULTS):
        for nth, records in enumerate((1, 0, 250), start=1):
            client.fault(kind="short_page", path=path, nth=nth, records=records)
    for pages in (rest_pages(client), bulk_pages(client)):
        assert [len(ids(page)) for page in pages] == [1, 0, 250, 200, 49]
        assert [one for page in pages for one in ids(page)] == leads


def test_counts_can_be_wrong_in_page_total_and_job(client: Client, leads: list[str]) -> None:
    client.fault(kind="wrong_count", path=QUERIES, by=-7)
    assert rest_pages(client)[0]["totalSize"] == 493
    client.fault(kind="wrong_count", path=QUERIES, by=5)
    assert client.get("/query", q="SELECT COUNT() FROM Lead").json()["totalSize"] == 505
    client.fault(kind="wrong_count", path=RESULTS, by=1)
    assert [counts(page) for page in bulk_pages(client)] == [201, 200, 100]
    client.fault(kind="wrong_count", path="*/jobs/query/750*", by=2, times=0)
    assert client.finished_job(SOQL)["numberRecordsProcessed"] == 502


def test_the_end_can_come_early(client: Client, leads: list[str]) -> None:
    for path in (QUERIES, RESULTS):
        client.fault(kind="early_end", path=path, nth=2)
    assert [len(ids(page)) for page in rest_pages(client)] == [200, 200]
    assert [len(ids(page)) for page in bulk_pages(client)] == [200, 200]
    client.fault(kind="early_end", path="*/resultPages")
    job = client.finished_job(SOQL)
    parallel = client.get(f"/jobs/query/{job['id']}/resultPages").json()
    assert parallel["done"] is True
    assert len(parallel["resultPages"]) == 5


def test_a_locator_can_lead_nowhere(client: Client, leads: list[str]) -> None:
    client.fault(kind="wrong_locator", path=QUERIES, locator="nonsense")
    options = {"Sforce-Query-Options": "batchSize=200"}
    page = client.http.get(client.url + "/query", params={"q": SOQL}, headers=options).json()
    lost = client.http.get(client.served.url + page["nextRecordsUrl"])
    assert lost.json()[0]["errorCode"] == "INVALID_QUERY_LOCATOR"
    job = client.finished_job(SOQL)
    client.fault(kind="wrong_locator", path=RESULTS, locator="!!")
    path = f"/jobs/query/{job['id']}/results"
    wrong = client.get(path).headers["Sforce-Locator"]
    assert client.get(path, locator=wrong).json()[0]["errorCode"] == "INVALID_LOCATOR"


def test_answers_without_an_order_can_come_in_any(client: Client, leads: list[str]) -> None:
    client.sandbox("shuffle", seed=7)
    by_rest = [row["Id"] for row in client.rows("SELECT Id FROM Lead", batch=200)]
    by_bulk = [one for page in bulk_pages(client, soql="SELECT Id FROM Lead") for one in ids(page)]
    assert by_rest == by_bulk != leads
    assert sorted(by_rest) == leads
    assert [row["Id"] for row in client.rows(SOQL)] == leads
    client.sandbox("shuffle", seed=None)
    assert [row["Id"] for row in client.rows("SELECT Id FROM Lead")] == leads
