"""How many API calls the org still answers today.

Belongs here: the budget, its header, the /limits resource. Does not belong here: which
requests count (server.py).
"""

import threading
from typing import Any

from crm_pipeline.sandbox.salesforce.failures import OrgError

_OTHERS = {
    "ConcurrentAsyncGetReportInstances": 200,
    "DailyAsyncApexExecutions": 250_000,
    "DailyBulkApiBatches": 15_000,
    "DailyBulkV2QueryFileStorageMB": 976_562,
    "DailyBulkV2QueryJobs": 10_000,
    "DailyStreamingApiEvents": 10_000,
    "DataStorageMB": 10_240,
    "FileStorageMB": 10_240,
    "HourlyTimeBasedWorkflow": 1_000,
    "MassEmail": 5_000,
    "SingleEmail": 5_000,
}


class ApiLimit:
    """The daily API budget; every answered request takes one."""

    def __init__(self, maximum: int = 1_000_000) -> None:
        self._lock = threading.Lock()
        self.maximum = maximum
        self.remaining = maximum

    def set(self, remaining: int, maximum: int | None = None) -> None:
        """Say what is left, and of how much."""
        with self._lock:
            self.maximum = maximum if maximum is not None else max(self.maximum, remaining)
            self.remaining = remaining

    def take(self) -> None:
        """Use one call; REQUEST_LIMIT_EXCEEDED when none is left."""
        with self._lock:
            if self.remaining <= 0:
                raise OrgError(
                    "REQUEST_LIMIT_EXCEEDED", "TotalRequests Limit exceeded.", status=403
                )
            self.remaining -= 1

    def header(self) -> str:
        """What Sforce-Limit-Info says."""
        return f"api-usage={self.maximum - self.remaining}/{self.maximum}"

    def resource(self) -> dict[str, Any]:
        """The body of /limits."""
        answer = {name: {"Max": size, "Remaining": size} for name, size in _OTHERS.items()}
        answer["DailyApiRequests"] = {"Max": self.maximum, "Remaining": self.remaining}
        return dict(sorted(answer.items()))
