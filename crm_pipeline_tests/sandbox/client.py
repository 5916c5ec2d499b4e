"""A thin HTTP client of a served sandbox org.

Belongs here: what tests say to the org over HTTP. Does not belong here: assertions, fixtures.
"""

import csv
import io
import time
from typing import Any

import requests

from crm_pipeline.sandbox.salesforce.running import RunningOrg


class Client:
    """A thin HTTP client with a session in the org."""

    def __init__(self, served: RunningOrg, version: str = "60.0") -> None:
        self.served = served
        self.url = f"{served.url}/services/data/v{version}"
        self.http = requests.Session()
        self.login()

    def login(self) -> None:
        form = {
            "grant_type": "client_credentials",
            "client_id": self.served.client_id,
            "client_secret": self.served.client_secret,
        }
        token = self.http.post(f"{self.served.url}/services/oauth2/token", data=form).json()
        self.http.headers["Authorization"] = f"Bearer {token['access_token']}"

    def get(self, path: str, **parameters: Any) -> requests.Response:
        return self.http.get(self.url + path, params=parameters)

    def call(self, method: str, path: str, body: Any = None, **headers: str) -> requests.Response:
        spoken = {name.replace("_", "-"): one for name, one in headers.items()}
        return self.http.request(method, self.url + path, json=body, headers=spoken)

    def rows(self, soql: str, *, batch: int = 2000, path: str = "/query") -> list[dict[str, Any]]:
        options = {"Sforce-Query-Options": f"batchSize={batch}"}
        page = self.http.get(self.url + path, params={"q": soql}, headers=options).json()
        found = list(page["records"])
        while not page["done"]:
            page = self.http.get(self.served.url + page["nextRecordsUrl"]).json()
            found.extend(page["records"])
        return found

    def finished_job(self, soql: str, operation: str = "query", **facts: Any) -> dict[str, Any]:
        job = self.call(
            "POST", "/jobs/query", {"operation": operation, "query": soql, **facts}
        ).json()
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            seen: dict[str, Any] = self.get(f"/jobs/query/{job['id']}").json()
            if seen["state"] not in {"UploadComplete", "InProgress"}:
                return seen
        raise AssertionError(f"job {job} does not end")

    def opened_job(self, operation: str, content: str, **facts: Any) -> str:
        body = {"object": "Lead", "operation": operation, **facts}
        job = self.call("POST", "/jobs/ingest", body).json()["id"]
        url = f"{self.url}/jobs/ingest/{job}/batches"
        put = self.http.put(url, data=content.encode(), headers={"Content-Type": "text/csv"})
        assert put.status_code == 201, put.text
        return str(job)

    def ingested(self, operation: str, content: str, **facts: Any) -> dict[str, Any]:
        job = self.opened_job(operation, content, **facts)
        self.call("PATCH", f"/jobs/ingest/{job}", {"state": "UploadComplete"})
        return self.ended(job)

    def ended(self, job: str) -> dict[str, Any]:
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            seen: dict[str, Any] = self.get(f"/jobs/ingest/{job}").json()
            if seen["state"] not in {"Open", "UploadComplete", "InProgress"}:
                return seen
        raise AssertionError(f"job {job} does not end")

    def results(self, job: str, kind: str) -> list[list[str]]:
        text = self.get(f"/jobs/ingest/{job}/{kind}").content.decode()
        return list(csv.reader(io.StringIO(text, newline="")))

    def writes(self, **parameters: Any) -> Any:
        url = f"{self.served.url}/sandbox/writes"
        return self.http.get(url, params=parameters).json()

    def sandbox(self, command: str, **facts: Any) -> Any:
        answer = self.http.post(f"{self.served.url}/sandbox/{command}", json=facts)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def fault(self, **facts: Any) -> None:
        assert self.http.post(f"{self.served.url}/sandbox/faults", json=facts).status_code == 200
