"""Reading the sandbox org by both transports: same rows, resumable, counted, chosen by cost."""

import threading
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from itertools import chain

import pytest

from crm_pipeline.crm.port import RecordRead, ResumePoint
from crm_pipeline.crm.salesforce.bulk import BulkRead
from crm_pipeline.crm.salesforce.connector import SalesforceConnector, connect
from crm_pipeline.crm.salesforce.login import ClientCredentialsLogin
from crm_pipeline.errors import (
    ConfigurationError,
    FieldUnavailable,
    ObjectUnavailable,
    PermanentError,
    ReadExpired,
    TransientError,
)
from crm_pipeline.model.filters import All, Comparator, Comparison, Not
from crm_pipeline.model.filters import Any as AnyOf
from crm_pipeline.model.objects import CrmObject, Transport
from crm_pipeline.model.pages import ResultPage
from crm_pipeline.sandbox.salesforce.faults import Fault
from crm_pipeline.sandbox.salesforce.gate import error_body
from crm_pipeline.sandbox.salesforce.org import SandboxOrg
from crm_pipeline.sandbox.salesforce.running import RunningOrg, running
from crm_pipeline_tests.integration.crm.asking import (
    NOON,
    QUICK,
    Connections,
    ask,
    read_all,
    rows_of,
    storable,
)

BOTH = pytest.mark.parametrize("transport", [Transport.REST, Transport.BULK])


def test_identity_names_org_and_user_in_two_calls(
    connector: SalesforceConnector, served: RunningOrg
) -> None:
    found = connector.identity()
    assert found.organization_id == served.org.organization_id
    assert found.organization_name == "Sandbox Org"
    assert found.user_name == "integration@sandbox.example"
    assert found.instance_url == served.url
    assert found.is_sandbox
    assert connector.usage.calls == 2


def test_a6_server_time_is_the_orgs_own(connector: SalesforceConnector) -> None:
    assert connector.server_time() == NOON
    calls = connector.usage.calls
    assert connector.server_time() == NOON
    assert connector.usage.calls == calls


def test_object_names_come_through_the_client_library(connector: SalesforceConnector) -> None:
    assert {"Lead", "Account", "Event_Registration__c"} <= set(connector.object_names())


def test_describe_finds_stamp_bin_and_merge(lead: CrmObject) -> None:
    assert lead.cursor_field == "SystemModstamp"
    assert lead.deleted_field == "IsDeleted"
    assert lead.merged_into_field == "MasterRecordId"
    assert any(option.value for option in lead.fields["Status"].options)
    assert lead.fields["Address"].value_type is None


@pytest.mark.parametrize("name", ["Nothing__c", "Lead/describe", "", "Lead?q=", "../limits"])
def test_an_object_that_is_not_there_is_unavailable(
    connector: SalesforceConnector, name: str
) -> None:
    with pytest.raises(ObjectUnavailable):
        connector.describe(name)


def test_a_path_gets_the_spelling_of_describe(connector: SalesforceConnector) -> None:
    contact = connector.describe("Contact")
    wider = connector.describe_path(contact, "account.owner.email")
    added = wider.fields["Account.Owner.Email"]
    assert added.is_calculated
    assert not added.is_updateable
    wider = connector.describe_path(wider, "Account.Name")
    rows = read_all(connector.open_read(ask(wider, "Id", "Account.Owner.Email", "Account.Name")))
    assert any("@" in row[1] for row in rows)


@pytest.mark.parametrize("path", ["Nobody.Name", "Owner.Nothing__c", "Name", "", "Owner."])
def test_a_path_that_leads_nowhere_is_refused(
    connector: SalesforceConnector, lead: CrmObject, path: str
) -> None:
    with pytest.raises(FieldUnavailable):
        connector.describe_path(lead, path)


@pytest.mark.parametrize("object_name", ["Lead", "Opportunity", "Event_Registration__c", "Task"])
def test_d13_rest_and_bulk_give_the_same_bytes(
    connector: SalesforceConnector, object_name: str
) -> None:
    described = connector.describe(object_name)
    if "OwnerId" in described.fields:
        described = connector.describe_path(described, "Owner.Name")
    found = []
    for transport in (Transport.REST, Transport.BULK):
        read = connector.open_read(ask(described, *storable(described), by=transport))
        rows = read_all(read)
        assert len(rows) == read.record_count
        found.append(sorted(rows))
        read.close()
    assert found[0] == found[1]
    assert found[0]


@BOTH
def test_deleted_records_come_only_when_wanted(
    connector: SalesforceConnector, served: RunningOrg, lead: CrmObject, transport: Transport
) -> None:
    everything = read_all(connector.open_read(ask(lead, by=transport)))
    alive = read_all(connector.open_read(ask(lead, by=transport, include_deleted=False)))
    assert len(everything) == served.org.count("Lead", include_deleted=True)
    assert len(alive) == served.org.count("Lead")
    assert {row[4] for row in everything} == {"true", "false"}


@BOTH
def test_filter_stamp_and_ids_narrow_both_transports_alike(
    connector: SalesforceConnector, lead: CrmObject, transport: Transport
) -> None:
    rule = All(
        (
            AnyOf(
                (
                    Comparison("Company", Comparator.EQUAL, "Crowd"),
                    Comparison("LastName", Comparator.LIKE, "%o'%"),
                )
            ),
            Not(Comparison("Email", Comparator.IN, ("c7@crowd.example", None))),
        )
    )
    request = replace(
        ask(lead, by=transport, since=NOON - timedelta(microseconds=1)), record_filter=rule
    )
    rows = read_all(connector.open_read(request))
    assert 4000 < len(rows) < 4500
    assert "c7@crowd.example" not in {row[2] for row in rows}
    assert connector.count(request) == len(rows)
    some = tuple(row[0] for row in rows[:150])
    narrowed = replace(request, record_ids=tuple(one[:15] for one in some))
    assert {row[0] for row in read_all(connector.open_read(narrowed))} == set(some)


@BOTH
def test_a13_a_read_goes_on_behind_the_pages_that_landed(
    connector: SalesforceConnector,
    served: RunningOrg,
    connections: Connections,
    lead: CrmObject,
    transport: Transport,
) -> None:
    request = ask(lead, by=transport)
    whole = read_all(connector.open_read(request))
    for landed in range(1, 4):
        first = connector.open_read(request)
        pages = first.pages()
        early = [next(pages) for _ in range(min(landed, 2 if transport is Transport.REST else 4))]
        rows = rows_of(b"".join(b"".join(page.chunks()) for page in early))
        later = connections.to(served).open_read(
            request, resume=ResumePoint(first.token, tuple(page.key for page in early))
        )
        assert later.transport is transport
        rows += read_all(later)
        assert later.record_count == len(whole)
        assert sorted(rows) == sorted(whole)


@pytest.mark.parametrize("landed", [("first",), ("first", "second"), ("second",)])
def test_an_old_api_version_reads_pages_one_behind_the_other(
    served: RunningOrg, connections: Connections, landed: tuple[str, ...]
) -> None:
    by_pages = replace(QUICK, page_records=1500)
    connector = connections.to(served, api_version="57.0", bulk=by_pages)
    request = ask(connector.describe("Lead"), by=Transport.BULK)
    read = connector.open_read(request)
    pages = list(read.pages())
    assert [page.record_count for page in pages] == [1500, 1500, 1500]
    whole = [rows_of(b"".join(page.chunks())) for page in pages]
    assert pages[0].key == "first"
    positions = {"first": 0, "second": 1}
    keys = tuple(pages[positions[name]].key for name in landed)
    later = connector.open_read(request, resume=ResumePoint(read.token, keys))
    missing = [rows for page, rows in zip(pages, whole, strict=True) if page.key not in keys]
    assert read_all(later) == list(chain.from_iterable(missing))


def test_pages_stream_side_by_side(connector: SalesforceConnector, lead: CrmObject) -> None:
    read = connector.open_read(ask(lead, by=Transport.BULK))
    pages = list(read.pages())
    found: list[bytes] = []
    threads = [
        threading.Thread(target=lambda page=page: found.append(b"".join(page.chunks())))
        for page in pages
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(rows_of(b"".join(found))) == read.record_count == 4500


def test_gzip_changes_nothing_but_the_bytes_on_the_wire(
    served: RunningOrg, connections: Connections, lead: CrmObject
) -> None:
    request = ask(lead, *storable(lead), by=Transport.BULK)
    sizes, found = [], []
    for gzip in (False, True):
        connector = connections.to(served, gzip=gzip)
        served.server.ledger.clear()
        found.append(read_all(connector.open_read(request)))
        sizes.append(
            sum(one.sent_bytes for one in served.server.ledger.entries() if "results" in one.path)
        )
    assert found[0] == found[1]
    assert sizes[1] < sizes[0] / 3


def test_few_changes_go_by_rest_in_one_call(small: RunningOrg, connections: Connections) -> None:
    connector = connections.to(small)
    lead = connector.describe("Lead")
    some = small.org.query("SELECT Id FROM Lead LIMIT 7")
    small.org.clock.advance(60)
    for row in some:
        small.org.update("Lead", row["Id"], {"Title": "Changed"})
    calls = connector.usage.calls
    read = connector.open_read(ask(lead, since=NOON + timedelta(seconds=60)))
    assert len(read_all(read)) == 7
    assert read.reason == "REST: 7 changed records in 1 call; Bulk needs about 6"
    assert connector.usage.calls == calls + 1


def test_reading_all_counts_first(
    connector: SalesforceConnector, small: RunningOrg, connections: Connections, lead: CrmObject
) -> None:
    many = connector.open_read(ask(lead))
    assert many.transport is Transport.BULK
    assert many.reason.startswith("Bulk: all 4,500 records are more than")
    little = connections.to(small)
    few = little.open_read(ask(little.describe("Lead")))
    assert few.transport is Transport.REST
    assert "in one call; Bulk needs about 6" in few.reason


def test_many_changes_go_by_bulk(
    connector: SalesforceConnector, lead: CrmObject, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("crm_pipeline.crm.salesforce.choice.MOST_CHANGES_BY_REST", 4000)
    read = connector.open_read(ask(lead, since=NOON - timedelta(days=9000)))
    assert read.transport is Transport.BULK
    assert read.reason == (
        "Bulk: 4,500 changed records would take 3 REST calls; Bulk needs about 6"
    )
    assert len(read_all(read)) == 4500


def test_e14_an_object_that_bulk_refuses_is_read_by_rest(
    served: RunningOrg, connector: SalesforceConnector, lead: CrmObject
) -> None:
    refusal = error_body("INVALIDENTITY", "Entity 'Lead' is not supported by the Bulk API.")
    served.server.faults.script(
        [Fault("status", path="*/jobs/query", status=400, body=refusal, times=0)]
    )
    read = connector.open_read(ask(lead))
    assert (read.transport, read.reason) == (Transport.REST, "REST: Bulk does not read Lead")
    assert len(read_all(read)) == 4500
    with pytest.raises(PermanentError, match="set its transport to rest or auto"):
        connector.open_read(ask(lead, by=Transport.BULK))


def test_e16_a_query_too_long_for_an_address_goes_by_bulk(
    served: RunningOrg, connector: SalesforceConnector, lead: CrmObject
) -> None:
    wordy = AnyOf(
        tuple(Comparison("Company", Comparator.EQUAL, f"Company {n:03}") for n in range(800))
    )
    read = connector.open_read(replace(ask(lead), record_filter=wordy))
    assert read.reason == "Bulk: the query is too long for REST"
    assert read_all(read) == []
    with pytest.raises(PermanentError, match="too long for REST"):
        connector.open_read(replace(ask(lead, by=Transport.REST), record_filter=wordy))


@pytest.mark.parametrize(("fields", "transport"), [(900, Transport.BULK), (90, Transport.REST)])
def test_e16_as_many_fields_as_an_object_may_have_are_read_at_once(
    small: RunningOrg, connections: Connections, fields: int, transport: Transport
) -> None:
    model = small.org.catalogue.object("Event_Registration__c")
    kind = next(one for one in model.fields if one.name == "Attendance__c")
    names = [f"Custom_Field_With_A_Long_Name_{number:03}__c" for number in range(fields)]
    more = tuple(replace(kind, name=name, label=name) for name in names)
    wide = replace(model, name="Wide__c", key_prefix="a9W", fields=(*model.fields, *more))
    small.org.add_object(wide)
    small.org.create_many("Wide__c", [{}] * 3)
    connector = connections.to(small)
    read = connector.open_read(ask(connector.describe("Wide__c"), "Id", *names))
    assert read.transport is transport
    assert [len(row) for row in read_all(read)] == [fields + 1] * 3


def test_a13_a_cursor_that_dies_is_no_end(
    served: RunningOrg, connector: SalesforceConnector, lead: CrmObject
) -> None:
    read = connector.open_read(ask(lead, by=Transport.REST))
    rows = []
    for page in read.pages():
        rows += rows_of(b"".join(page.chunks()))
        served.server.cursors.forget()
    assert len({row[0] for row in rows}) == len(rows) == read.record_count == 4500


def test_a14_short_and_empty_pages_are_no_end(
    served: RunningOrg, connector: SalesforceConnector, lead: CrmObject
) -> None:
    path = f"/services/data/v62.0/queryAll/{'0r8' + 'x' * 12}-2000"
    hollow = f'{{"totalSize": 4500, "done": false, "nextRecordsUrl": "{path}", "records": []}}'
    rest = connector.open_read(ask(lead, by=Transport.REST))
    served.server.faults.script([Fault("status", path="*/0r8*", status=200, body=hollow, nth=1)])
    # The hollow page leads to a cursor that is not there: the read goes on behind its last id.
    assert len(read_all(rest)) == 4500


def test_a15_a_page_that_lost_records_is_noticed(
    served: RunningOrg, connector: SalesforceConnector, lead: CrmObject
) -> None:
    last = '{"totalSize": 4500, "done": true, "records": []}'
    read = connector.open_read(ask(lead, by=Transport.REST))
    pages = read.pages()
    next(pages)
    served.server.faults.script(
        [
            Fault("status", path="*/0r8*", status=200, body=last),
            Fault("status", path="*/queryAll", status=200, body=last.replace("4500", "0")),
        ]
    )
    with pytest.raises(ReadExpired, match="announced 4,500 records of Lead and handed over 2,000"):
        list(pages)


def test_a15_an_end_that_came_early_is_mended_in_place(
    served: RunningOrg, connector: SalesforceConnector, lead: CrmObject
) -> None:
    last = '{"totalSize": 4500, "done": true, "records": []}'
    read = connector.open_read(ask(lead, by=Transport.REST))
    served.server.faults.script([Fault("status", path="*/0r8*", status=200, body=last)])
    assert len(read_all(read)) == read.record_count == 4500


@pytest.mark.parametrize("gzip", [False, True])
def test_e9_a_bulk_page_cut_at_any_kilobyte_is_noticed_and_read_again(
    served: RunningOrg,
    connections: Connections,
    lead: CrmObject,
    gzip: bool,  # noqa: FBT001
) -> None:
    served.server.settings.bulk_page_records = 200
    connector = connections.to(served, gzip=gzip)
    page = next(connector.open_read(ask(lead, by=Transport.BULK)).pages())
    whole = b"".join(page.chunks())
    sent = next(
        one.sent_bytes
        for one in reversed(served.server.ledger.entries())
        if one.path.endswith("/results")
    )
    for after_bytes in range(0, sent, 1024):
        served.server.faults.clear()
        served.server.faults.script([Fault("cut", path="*/results", after_bytes=after_bytes)])
        with pytest.raises(TransientError):
            list(page.chunks())
        assert b"".join(page.chunks()) == whole


def test_e9_cut_json_is_read_again(
    served: RunningOrg, connector: SalesforceConnector, lead: CrmObject
) -> None:
    whole = read_all(connector.open_read(ask(lead, by=Transport.REST)))
    for after_bytes in range(0, 200_000, 40_000):
        served.server.faults.clear()
        served.server.faults.script(
            [Fault("cut", path="*/query*", after_bytes=after_bytes, nth=n) for n in (1, 3)]
        )
        assert read_all(connector.open_read(ask(lead, by=Transport.REST))) == whole


def bulk_reads(connector: SalesforceConnector, lead: CrmObject) -> BulkRead:
    read = connector.open_read(ask(lead, by=Transport.BULK))
    assert isinstance(read, BulkRead)
    return read


@pytest.mark.parametrize(
    ("message", "verdict"),
    [
        ("INVALID_FIELD: No such column 'Gone__c' on entity 'Lead'", FieldUnavailable),
        ("InvalidBatch : Failed to process query: MALFORMED_QUERY: near Smith", PermanentError),
        ("INVALID_TYPE: sObject type 'Lead' is not supported.", ObjectUnavailable),
        ("InternalServerError: something at Smith's", TransientError),
        ("", TransientError),
    ],
)
def test_e12_a_failed_job_tells_why_without_repeating_values(
    served: RunningOrg,
    connector: SalesforceConnector,
    lead: CrmObject,
    message: str,
    verdict: type[Exception],
) -> None:
    served.server.jobs.fail_next = message or " "
    with pytest.raises(verdict) as caught:
        list(bulk_reads(connector, lead).pages())
    assert "Smith" not in str(caught.value)
    if isinstance(caught.value, FieldUnavailable):
        assert caught.value.fields == ("Gone__c",)


@pytest.fixture
def held(served: RunningOrg) -> Iterator[RunningOrg]:
    served.server.jobs.hold()
    yield served
    served.server.jobs.release()


def test_e12_a_job_is_given_up_after_a_while(
    held: RunningOrg, connections: Connections, lead: CrmObject
) -> None:
    impatient = connections.to(held, bulk=replace(QUICK, patience_seconds=0.05))
    read = bulk_reads(impatient, lead)
    assert read.record_count is None
    with pytest.raises(TransientError, match="did not end"):
        list(read.pages())
    read.close()
    assert held.server.jobs.all()[-1:] == [] or held.server.jobs.all()[-1].id != read.token


def test_e12_a_job_aborted_in_salesforce_is_begun_anew(
    held: RunningOrg, connector: SalesforceConnector, lead: CrmObject
) -> None:
    read = bulk_reads(connector, lead)
    held.server.jobs.find(read.token).state = "Aborted"
    with pytest.raises(ReadExpired, match="aborted"):
        list(read.pages())
    with pytest.raises(ReadExpired):
        connector.open_read(ask(lead), resume=ResumePoint(read.token, ()))


def test_g10_a_waiting_job_can_be_stopped(
    held: RunningOrg, connections: Connections, lead: CrmObject
) -> None:
    asked = []

    def check() -> None:
        asked.append(1)
        if len(asked) > 8:
            raise KeyboardInterrupt

    read = bulk_reads(connections.to(held, check_interrupt=check), lead)
    with pytest.raises(KeyboardInterrupt):
        list(read.pages())


def test_e12_e13_a_job_that_is_gone_has_expired(
    served: RunningOrg, connector: SalesforceConnector, lead: CrmObject
) -> None:
    read = bulk_reads(connector, lead)
    pages = list(read.pages())
    read.close()
    read.close()
    assert read.token not in {one.id for one in served.server.jobs.all()}
    with pytest.raises(ReadExpired):
        list(pages[0].chunks())
    for token in (read.token, "rest'", "7508d0000000009AAA"):
        with pytest.raises(ReadExpired):
            connector.open_read(ask(lead), resume=ResumePoint(token, ()))


def test_e13_a_job_of_another_api_version_has_expired(
    served: RunningOrg, connections: Connections, connector: SalesforceConnector, lead: CrmObject
) -> None:
    read = bulk_reads(connector, lead)
    list(read.pages())
    other = connections.to(served, api_version="61.0")
    with pytest.raises(ReadExpired):
        list(other.open_read(ask(lead), resume=ResumePoint(read.token, ())).pages())


def test_e12_an_empty_result_needs_no_page(connector: SalesforceConnector, lead: CrmObject) -> None:
    nobody = Comparison("LastName", Comparator.EQUAL, "Nobody at all")
    for transport in (Transport.REST, Transport.BULK):
        read = connector.open_read(replace(ask(lead, by=transport), record_filter=nobody))
        assert list(read.pages()) == []
        assert read.record_count == 0


def test_columns_are_checked(
    served: RunningOrg, connector: SalesforceConnector, lead: CrmObject
) -> None:
    page = next(bulk_reads(connector, lead).pages())
    for body, names in (
        ('"ID","EMAIL","lastname","IsDeleted","SystemModstamp"\n', True),
        ('\ufeff"Id","LastName","Email","SystemModstamp","IsDeleted"\r\n', True),
        ('"Id","LastName"\n', False),
        ('"Id","LastName","Email","SystemModstamp","IsDeleted","More"\n', False),
        ('"Id","LastName","Email","SystemModstamp","Other"', False),
    ):
        served.server.faults.clear()
        served.server.faults.script(
            [Fault("status", path="*/results", status=200, body=body, content_type="text/csv")]
        )
        if names:
            assert list(page.chunks()) == []
            assert set(page.columns) == set(ask(lead).fields)
        else:
            with pytest.raises(PermanentError, match="other columns"):
                list(page.chunks())
    assert page.columns[1] in {"Email", "LastName"}


def test_d8_d9_nul_and_half_characters_become_replacement_characters(
    served: RunningOrg, connector: SalesforceConnector, lead: CrmObject
) -> None:
    body = '"Id","LastName"\n"00Q","a\0b"\n'
    served.server.faults.script(
        [Fault("status", path="*/results", status=200, body=body, content_type="text/csv")]
    )
    page = next(connector.open_read(ask(lead, "Id", "LastName", by=Transport.BULK)).pages())
    assert b"".join(page.chunks()).decode() == '"00Q","a\ufffdb"\n'
    body = (
        '{"totalSize": 1, "done": true, "records": '
        '[{"Id": "00Q", "LastName": "a\\u0000b\\ud83dc\\ud83d\\ude00"}]}'
    )
    served.server.faults.script([Fault("status", path="*/queryAll", status=200, body=body)])
    [row] = read_all(connector.open_read(ask(lead, "Id", "LastName", by=Transport.REST)))
    assert row == ["00Q", "a\ufffdb\ufffdc\U0001f600"]


def test_hostile_values_survive_both_transports(
    small: RunningOrg, connections: Connections
) -> None:
    connector = connections.to(small)
    lead = connector.describe("Lead")
    expected = {
        row["Id"]: row for row in small.org.query("SELECT Id, LastName, Description FROM Lead")
    }
    for transport in (Transport.REST, Transport.BULK):
        request = ask(lead, "Id", "LastName", "Description", by=transport)
        for identifier, name, description in read_all(connector.open_read(request)):
            truth = expected[identifier]
            assert name == truth["LastName"]
            assert description == (truth["Description"] or "").replace("\0", "\ufffd")


def test_c3_a_hidden_field_is_named(connections: Connections, small: RunningOrg) -> None:
    connector = connections.to(small)
    lead = connector.describe("Lead")
    small.org.hide_field("Lead", "Title")
    for transport in (Transport.REST, Transport.BULK):
        with pytest.raises(FieldUnavailable) as caught:
            connector.open_read(ask(lead, "Id", "Title", by=transport))
        assert caught.value.fields == ("Title",)
        assert caught.value.object_name == "Lead"
    assert "Title" not in connector.describe("Lead").fields
    small.org.forbid_object("Lead")
    with pytest.raises(ObjectUnavailable):
        connector.describe("Lead")
    with pytest.raises(ObjectUnavailable):
        connector.count(ask(lead, "Id"))


def test_e17_a_retired_api_version_is_an_error_of_the_settings(
    served: RunningOrg, connections: Connections
) -> None:
    retired = error_body("UNSUPPORTED_API_VERSION")
    served.server.faults.script([Fault("status", status=410, body=retired, path="*v20*")])
    connector = connections.to(served, api_version="20.0")
    with pytest.raises(ConfigurationError, match=r"crm\.api_version"):
        connector.describe("Lead")


def test_the_library_shares_our_session(served: RunningOrg, connector: SalesforceConnector) -> None:
    client = connector.client()
    assert client.query("SELECT Id FROM Lead", include_deleted=True)["totalSize"] == 4500
    served.org.expire_sessions()
    assert client.limits()["DailyApiRequests"]["Max"] > 0
    more = client.query_all("SELECT Id FROM Lead")
    assert more["totalSize"] == served.org.count("Lead")
    with pytest.raises(FieldUnavailable):
        client.query("SELECT Gone__c FROM Lead")


def page_keys(read: RecordRead) -> list[str]:
    pages: list[ResultPage] = list(read.pages())
    return [page.key for page in pages]


def test_page_keys_stay_the_same(connector: SalesforceConnector, lead: CrmObject) -> None:
    for transport in (Transport.REST, Transport.BULK):
        request = ask(lead, by=transport)
        read = connector.open_read(request)
        keys = page_keys(read)
        assert len(set(keys)) == len(keys) >= 3
        if transport is Transport.BULK:
            again = connector.open_read(request, resume=ResumePoint(read.token, ()))
            assert page_keys(again) == keys


def test_s9_tls_needs_the_authority(crowd: SandboxOrg, connections: Connections) -> None:
    with running(crowd, tls=True) as secured:
        assert connections.to(secured).identity().instance_url.startswith("https://")
        stranger = connect(
            ClientCredentialsLogin(secured.url, secured.client_id, secured.client_secret),
            api_version="62.0",
        )
        with pytest.raises(ConfigurationError, match="SALESFORCE_CA_FILE"):
            stranger.identity()
        stranger.close()
        connections.close()  # open TLS connections would outlive their server
