"""Salesforce as a CrmConnector: the verbs of the port.

Belongs here: what the port asks for, put together from the other files. Does not belong here: how
either transport works (rest.py, bulk.py) and which one is taken (choice.py).
"""

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path

from crm_pipeline.config.environment import Environment, SalesforceFlow, salesforce_login
from crm_pipeline.config.settings import CrmSettings
from crm_pipeline.crm.port import (
    ApiUsage,
    OrgIdentity,
    ReadRequest,
    RecordRead,
    ResumePoint,
    WriteCapabilities,
    WriteJob,
)
from crm_pipeline.crm.salesforce import ingest, rest, writing
from crm_pipeline.crm.salesforce.bulk import BulkManners, BulkRead, delete_job
from crm_pipeline.crm.salesforce.choice import choose
from crm_pipeline.crm.salesforce.custom_fields import FieldWorkshop, judged
from crm_pipeline.crm.salesforce.deletions import DeleteLog
from crm_pipeline.crm.salesforce.describe import (
    Description,
    at_path,
    description_of,
    with_field,
)
from crm_pipeline.crm.salesforce.failures import (
    BulkUnsupported,
    Concern,
    ReadOnlyOrganization,
    hidden_object,
    missing_fields,
)
from crm_pipeline.crm.salesforce.finding import found_by
from crm_pipeline.crm.salesforce.identifiers import full_id
from crm_pipeline.crm.salesforce.identity import (
    excess_permissions,
    identity_of,
    organization_of,
    owner_refusal,
)
from crm_pipeline.crm.salesforce.library import LibraryClient
from crm_pipeline.crm.salesforce.login import (
    ClientCredentialsLogin,
    JwtBearerLogin,
    SalesforceLogin,
)
from crm_pipeline.crm.salesforce.rest import RestQueries, RestRead
from crm_pipeline.crm.salesforce.session import SalesforceSession
from crm_pipeline.crm.salesforce.wire import Manners
from crm_pipeline.crm.salesforce.write_failures import OWNER_FIELD
from crm_pipeline.errors import (
    ConfigurationError,
    ObjectUnavailable,
    PermanentError,
    UsageError,
)
from crm_pipeline.model.objects import CrmObject, Transport
from crm_pipeline.model.wanted_fields import FieldEnsured, WantedField
from crm_pipeline.model.writeback import (
    Operation,
    Outcome,
    Value,
    Whereabouts,
    WriteBatch,
    WriteOptions,
)

_DEEPEST_PATH = 5  # parents that SOQL climbs to


class SalesforceConnector:
    """One org, spoken to as one user; safe from several threads."""

    def __init__(
        self, session: SalesforceSession, api_version: str, *, bulk: BulkManners | None = None
    ) -> None:
        self.session = session
        self.client = LibraryClient(session, api_version)
        self._api_version = api_version
        self._version_path = f"/services/data/v{api_version}"
        self._bulk = bulk or BulkManners()
        self._writer = writing.RecordWriter(session, self._version_path)
        self._workshop = FieldWorkshop(session, self._version_path, self.describe)
        self._described: dict[str, Description] = {}
        self._without_bulk: dict[str, str] = {}  # objects that Bulk turned out not to read, and why
        self._lock = threading.Lock()

    @property
    def usage(self) -> ApiUsage:
        """API calls so far."""
        return self.session.usage

    def identity(self) -> OrgIdentity:
        """Log in if need be, and say where we are; two calls."""
        try:
            return identity_of(self.session, self._version_path)
        except ObjectUnavailable:
            self._check_version()
            raise

    def organization_id(self) -> str:
        """The organisation of the login's answer; userinfo's, where the login does not say it."""
        return organization_of(self.session)

    def server_time(self) -> datetime:
        """The Date of the latest answer; asks for the list of resources if there is none yet."""
        if self.session.server_time is None:
            self.session.get_object(self._version_path)
        moment = self.session.server_time
        if moment is None:  # HTTP demands it of every server with a clock; a proxy may drop it
            raise PermanentError(
                "Salesforce's answers arrive without a Date, and windows are never built from our "
                "own clock; look at the proxy in between."
            )
        return moment

    def full_id(self, record_id: str) -> str:
        """The 18-character form of an id.

        Raises:
            UsageError: it is none.
        """
        try:
            return full_id(record_id)
        except PermanentError as error:
            raise UsageError(str(error)) from error

    def excess_permissions(self) -> tuple[str, ...]:
        """Those of the user's profile and permission sets together; one call.

        Raises:
            ObjectUnavailable: our user may not see its own permission sets.
        """
        return excess_permissions(self.session, self._version_path)

    def object_names(self) -> tuple[str, ...]:
        """API names of all objects that our user may query, by the global describe."""
        found = self.client().describe() or {}
        return tuple(
            sorted(str(one["name"]) for one in found.get("sobjects", ()) if one.get("queryable"))
        )

    def describe(self, object_name: str) -> CrmObject:
        """The object as our user may see it now; asked anew each time.

        Raises:
            ObjectUnavailable: unknown, or hidden from our user.
        """
        return self._describe(object_name).crm_object

    def describe_path(self, crm_object: CrmObject, path: str) -> CrmObject:
        """The same object with the field at the end of a relationship path added under that path.

        The added name has the spelling of describe. Where a relationship leads to several objects
        (an owner is a user or a queue), the field has to exist in one of them.

        Raises:
            FieldUnavailable: some step of the path does not exist or is hidden.
        """
        *steps, last = path.split(".")
        names = []
        candidates = [self._known(crm_object.name)]
        for step in steps[:_DEEPEST_PATH]:
            ways = [way for one in candidates if (way := one.relationship(step)) is not None]
            if not ways:
                raise missing_fields(crm_object.name, (path,))
            names.append(ways[0].name)
            candidates = self._parents(ways[0].parents)
        found = next((field for one in candidates if (field := one.crm_object.find(last))), None)
        if found is None or not steps or len(steps) > _DEEPEST_PATH:
            raise missing_fields(crm_object.name, (path,))
        return with_field(crm_object, at_path(found, ".".join((*names, found.name))))

    def count(self, request: ReadRequest) -> int:
        """How many records the request would return now; one call."""
        return self._queries(request).count()

    def open_read(self, request: ReadRequest, *, resume: ResumePoint | None = None) -> RecordRead:
        """Begin to read, or go on where an earlier attempt stopped.

        Raises:
            ReadExpired: the point to resume from is gone; open again without it.
            FieldUnavailable: Salesforce refuses a field.
            ObjectUnavailable: Salesforce refuses the object.
            PermanentError: Salesforce refuses the filter.
        """
        if resume is not None:
            is_rest = resume.token == rest.TOKEN
            return (self._rest if is_rest else self._by_bulk)(
                request, "Goes on where an earlier attempt stopped", resume=resume
            )
        reason = self._without_bulk.get(request.crm_object.name)
        if reason and request.only_transport is not Transport.BULK:
            return self._rest(request, f"REST: {reason}", in_portions=True)
        queries = self._queries(request)
        choice = choose(request, queries.begin, lambda: self.count(request))
        if choice.transport is Transport.REST:
            return self._rest(request, choice.reason, first=choice.first)
        try:
            return self._by_bulk(request, choice.reason)
        except BulkUnsupported:
            reason = f"Bulk does not read {request.crm_object.name}"
            if request.only_transport is Transport.BULK:
                raise
        except ReadOnlyOrganization:
            reason = "Salesforce is read-only for maintenance and begins no Bulk job"
            if request.only_transport is Transport.BULK:
                raise
        return self._rest(request, f"REST: {reason}")

    def forget(self, token: str) -> None:
        """Delete the Bulk job behind a read; cursors of REST reads end by themselves."""
        if token != rest.TOKEN and token.isalnum():
            delete_job(self.session, f"{self._version_path}/jobs/query/{token}")

    def deleted_since(
        self, crm_object: CrmObject, since: datetime, until: datetime
    ) -> Iterator[tuple[str, datetime]]:
        """Ids that the log of deletions knows, each with the instant of its deletion.

        Raises:
            ReadExpired: the log does not reach back to `since`, or cannot be read whole.
            ObjectUnavailable: Salesforce refuses the object.
        """
        log = DeleteLog(self.session, self._version_path, crm_object.name)
        yield from log.between(since, until, now=self.server_time())

    def find_by(
        self,
        crm_object: CrmObject,
        field_name: str,
        values: Sequence[str],
        fields: Sequence[str] = (),
    ) -> tuple[Mapping[str, Value], ...]:
        """Living records of which a field holds one of the values; a call for each 200 of them."""
        return tuple(found_by(self._queries, crm_object, field_name, values, fields))

    def write_capabilities(self) -> WriteCapabilities:
        """Collections of 200, jobs of 100,000."""
        return WriteCapabilities(
            rows_per_call=writing.MOST_ROWS,
            calls_at_once=max(1, self.session.manners.connections - 1),
            job_rows=ingest.MOST_ROWS,
            job_bytes=ingest.MOST_BYTES,
            calls_per_job=ingest.CALLS_FOR_A_JOB,
            job_null=ingest.NULL,
            parent_fields=writing.PARENT_FIELDS,
            owner_field=OWNER_FIELD,
        )

    def refusal_of(
        self, crm_object: CrmObject, operation: Operation, name: str, value: Value
    ) -> Outcome | None:
        """Why a field cannot be given a value, as far as describe tells."""
        return writing.refusal_of(crm_object, operation, name, value)

    def key_refusal(self, crm_object: CrmObject, field_name: str) -> Outcome | None:
        """Why records cannot be told apart by a key field."""
        return writing.key_refusal(crm_object, field_name)

    def owner_refusal(self, owner_id: str) -> str | None:
        """Why records cannot be given to a user or queue; one call."""
        return owner_refusal(self.session, self._version_path, owner_id)

    def same_value(self, crm_object: CrmObject, name: str, ours: Value, theirs: Value) -> bool:
        """Whether a value that was read is the one that was written."""
        return writing.same_value(crm_object, name, ours, theirs)

    def write(self, batch: WriteBatch) -> tuple[Outcome, ...]:
        """Send a collection; an outcome for each record, in order."""
        return self._writer.write(batch)

    def retrieve(
        self, crm_object: CrmObject, ids: Sequence[str], fields: Sequence[str]
    ) -> Mapping[str, Mapping[str, Value]]:
        """What living records hold now, by id; a call for each 2,000."""
        return self._writer.retrieve(crm_object, ids, fields)

    def whereabouts(self, crm_object: CrmObject, ids: Sequence[str]) -> Mapping[str, Whereabouts]:
        """What became of records; a call for each 200."""
        return self._writer.whereabouts(crm_object, ids)

    def begin_write_job(
        self,
        crm_object: CrmObject,
        operation: Operation,
        *,
        external_id_field: str | None,
        options: WriteOptions,
    ) -> WriteJob:
        """Begin an ingest job that has no records yet."""
        return ingest.begin_job(
            self.session,
            f"{self._version_path}/jobs/ingest",
            crm_object,
            operation,
            external_id_field=external_id_field,
            options=options,
        )

    def find_write_job(self, token: str) -> WriteJob:
        """An ingest job that an earlier process began."""
        return ingest.find_job(self.session, f"{self._version_path}/jobs/ingest", token)

    def judge_field(self, crm_object: CrmObject, wanted: WantedField) -> FieldEnsured:
        """How a field stands, as far as describe tells."""
        return judged(crm_object, wanted)

    def ensure_field(self, wanted: WantedField) -> FieldEnsured:
        """See to it that a custom field is there and ours to write; about seven calls to make it.

        Raises:
            ObjectUnavailable: Salesforce does not show us the object.
            TransientError: no answer came; run it again.
        """
        return self._workshop.ensure(wanted)

    def close(self) -> None:
        """Give connections back."""
        self.session.close()

    def _rest(
        self,
        request: ReadRequest,
        reason: str,
        *,
        first: rest.Answer | None = None,
        in_portions: bool = False,
        resume: ResumePoint | None = None,
    ) -> RecordRead:
        return RestRead(
            self._queries(request),
            request,
            reason,
            first=first,
            in_portions=in_portions,
            resume=resume,
        )

    def _by_bulk(
        self, request: ReadRequest, reason: str, *, resume: ResumePoint | None = None
    ) -> RecordRead:
        def take_note(why: str) -> None:
            self._without_bulk[request.crm_object.name] = why

        return BulkRead(
            self.session,
            self._api_version,
            request,
            reason,
            manners=self._bulk,
            resume=resume,
            when_unable=None if request.only_transport is Transport.BULK else take_note,
        )

    def _queries(self, request: ReadRequest) -> RestQueries:
        return RestQueries(self.session, self._version_path, request)

    def _describe(self, object_name: str) -> Description:
        if not object_name.isidentifier() or not object_name.isascii():
            raise hidden_object("")
        try:
            answer = self.session.get_object(
                f"{self._version_path}/sobjects/{object_name}/describe",
                "name",
                "fields",
                concern=Concern(object_name),
            )
        except ObjectUnavailable:
            self._check_version()
            raise
        description = description_of(answer)
        with self._lock:
            self._described[description.crm_object.name] = description
        return description

    def _check_version(self) -> None:
        """Tell an object that is not there from an API version that is not there.

        Raises:
            ConfigurationError: the organisation does not serve our version, or not yet.
        """
        answer = self.session.request("GET", "/services/data").json()
        served = [str(one.get("version")) for one in answer if isinstance(one, dict)]
        if served and self._api_version not in served:
            raise ConfigurationError(
                f"Salesforce serves versions {served[0]} to {served[-1]} of its API here; set "
                f"crm.api_version, which is {self._api_version}, to one of them."
            )

    def _known(self, object_name: str) -> Description:
        """As this connector last saw it; relationships do not change between two of its calls."""
        with self._lock:
            description = self._described.get(object_name)
        return description or self._describe(object_name)

    def _parents(self, names: tuple[str, ...]) -> list[Description]:
        """The parents that we may see; users first, for queues lack most of what is asked for."""
        found = []
        for name in sorted(names, key=lambda one: one != "User"):
            try:
                found.append(self._known(name))
            except ObjectUnavailable:
                continue
        return found


def connect(
    login: SalesforceLogin,
    *,
    api_version: str,
    api_budget_percent: float | None = None,
    ca_file: Path | None = None,
    gzip: bool = False,
    bulk_page_records: int = 100_000,
    check_interrupt: Callable[[], None] | None = None,
    manners: Manners | None = None,
    bulk: BulkManners | None = None,
) -> SalesforceConnector:
    """A connector that logs in with its first request.

    Args:
        login: how.
        api_version: as `62.0`.
        api_budget_percent: share of the org's daily calls at which we stop asking.
        ca_file: a certificate authority to trust instead of the public ones.
        gzip: ask for compressed answers; worth it when the way is slower than about 50 MB/s.
        bulk_page_records: the most records in a page where Salesforce lets us say.
        check_interrupt: called before every request; raises to stop.
        manners: time limits and repetitions.
        bulk: waiting for jobs; given, it decides about `bulk_page_records` too.
    """
    session = SalesforceSession(
        login,
        ca_file=ca_file,
        gzip=gzip,
        api_budget_percent=api_budget_percent,
        check_interrupt=check_interrupt,
        manners=manners,
    )
    return SalesforceConnector(
        session, api_version, bulk=bulk or BulkManners(page_records=bulk_page_records)
    )


def from_settings(
    settings: CrmSettings,
    environment: Environment,
    *,
    check_interrupt: Callable[[], None] | None = None,
) -> SalesforceConnector:
    """The connector that settings file and environment describe.

    Raises:
        ConfigurationError: the environment lacks a login.
    """
    return connect(
        login_of(environment),
        api_version=settings.api_version,
        api_budget_percent=settings.api_budget_percent,
        ca_file=environment.salesforce_ca_file,
        bulk_page_records=settings.bulk_page_records,
        check_interrupt=check_interrupt,
    )


def login_of(environment: Environment) -> SalesforceLogin:
    """The login that the environment configures, complete.

    Raises:
        ConfigurationError: variables are missing or contradict each other.
    """
    flow = salesforce_login(environment)
    client_id = environment.salesforce_client_id or ""
    secret = environment.salesforce_client_secret
    if flow is SalesforceFlow.CLIENT_CREDENTIALS and secret is not None:
        return ClientCredentialsLogin(
            environment.salesforce_login_url, client_id, secret.get_secret_value()
        )
    return JwtBearerLogin(
        environment.salesforce_login_url,
        client_id,
        environment.salesforce_username or "",
        environment.salesforce_private_key_file or Path(),
    )
