"""Asking for records by id, however many: a CRM takes only so many ids with one question.

Belongs here: cutting a list of ids into questions that look like one read. Does not belong here:
landing what comes (reading.py).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

from crm_pipeline.crm.port import ReadRequest, RecordRead, RecordSource, ResumePoint
from crm_pipeline.model.objects import Transport
from crm_pipeline.model.pages import ResultPage

RECORDS_PER_QUESTION = 200


def open_read(
    source: RecordSource, request: ReadRequest, resume: ResumePoint | None = None
) -> RecordRead:
    """Open a read; of more ids than one question takes, as many questions as it needs.

    Raises:
        CrmPipelineError: as `RecordSource.open_read`.
    """
    ids = request.record_ids or ()
    if len(ids) <= RECORDS_PER_QUESTION:
        return source.open_read(request, resume=resume)
    first, *others = batched(ids, RECORDS_PER_QUESTION)
    return _Questions(source, request, source.open_read(replace(request, record_ids=first)), others)


def batched(values: Sequence[str], size: int) -> Iterator[tuple[str, ...]]:
    """Slices of at most that size, in order."""
    for start in range(0, len(values), size):
        yield tuple(values[start : start + size])


@dataclass(slots=True)
class _Questions:
    """Several reads in a row; the next question is asked when the answer before has landed."""

    source: RecordSource
    request: ReadRequest
    first: RecordRead
    others: list[tuple[str, ...]]
    announced: int | None = field(default=None)

    @property
    def transport(self) -> Transport:
        return self.first.transport

    @property
    def reason(self) -> str:
        return self.first.reason

    @property
    def token(self) -> str:
        return self.first.token

    @property
    def record_count(self) -> int | None:
        """Known when the last question is answered."""
        return self.announced

    def pages(self) -> Iterator[ResultPage]:
        total = 0
        for read in self._reads():
            yield from read.pages()
            total += read.record_count or 0
            read.close()
        self.announced = total

    def _reads(self) -> Iterator[RecordRead]:
        yield self.first
        for ids in self.others:
            yield self.source.open_read(replace(self.request, record_ids=ids))

    def close(self) -> None:
        self.first.close()
