"""Every way in gives the same events: CSV, JSON lines, JSON, Parquet, SendGrid, Postmark."""

import gzip
import json
from datetime import UTC, datetime
from io import BytesIO
from typing import Any

import pyarrow as pa
import pytest
from pyarrow import parquet

from crm_pipeline_tests.integration.events.conftest import Tray, event, lines

NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)
FULL = {
    "event_id": "e1",
    "occurred_at": "2026-03-02T12:00:00Z",
    "kind": "email_clicked",
    "email": " Ann@Example.COM ",
    "crm_id": "00Q5g00000AbCdE",
    "campaign": 'spring, "25"',
    "channel": "email",
    "source": "newsletter",
    "url": "https://example.com/?a=1&b=ä",
    "properties": {"points": 5, "path": "C:\\new\\tab", "quote": '"', "line": "a\nb\tc"},
}
STORED = (
    "e1",
    NOON,
    "email_clicked",
    "ann@example.com",
    "00Q5g00000AbCdEEAV",
    'spring, "25"',
    "email",
    "newsletter",
    "https://example.com/?a=1&b=ä",
    FULL["properties"],
)


def as_csv(row: dict[str, Any]) -> str:
    values = [v if isinstance(v, str) else json.dumps(v) for v in row.values()]
    quoted = ['"' + value.replace('"', '""') + '"' for value in values]
    return ",".join(row) + "\r\n" + ",".join(quoted) + "\r\n"


def as_parquet(**columns: pa.Array) -> bytes:
    written = BytesIO()
    parquet.write_table(pa.table(columns), written)
    return written.getvalue()


FULL_PARQUET = as_parquet(
    **{name: pa.array([value]) for name, value in FULL.items() if name != "occurred_at"},
    occurred_at=pa.array([NOON], pa.timestamp("us", "Europe/Berlin")),
)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.csv", as_csv(FULL).encode()),
        ("a.CSV", b"\xef\xbb\xbf" + as_csv(FULL).encode()),
        ("a.csv.gz", gzip.compress(as_csv(FULL).encode())),
        ("a.jsonl", lines(FULL).encode()),
        ("deep/down/a.ndjson", lines(FULL).rstrip("\n").replace(", ", ",\t").encode()),
        ("a.jsonl.gz", gzip.compress(lines(FULL).encode())),
        ("a.json", json.dumps([FULL]).encode()),
        ("b.json", json.dumps(FULL, indent=2).encode()),
        ("a.parquet", FULL_PARQUET),
    ],
)
def test_an_event_is_the_same_whatever_file_it_came_in(
    tray: Tray, name: str, content: bytes
) -> None:
    tray.put(name, content)
    assert [(one.rows, one.loaded, one.rejected) for one in tray.take_in().files] == [(1, 1, 0)]
    assert tray.events() == [STORED]
    assert tray.leftovers() == []


def test_only_id_time_and_kind_are_needed(tray: Tray) -> None:
    tray.put("a.csv", "kind,event_id,occurred_at\ncustom_toast,e1,2026-03-02 13:00:00+01\n")
    tray.take_in()
    assert tray.events() == [("e1", NOON, "custom_toast", *[None] * 6, {})]


def test_a_time_without_a_zone_is_utc(tray: Tray) -> None:
    tray.put("a.jsonl", lines(event(occurred_at="2026-03-02T12:00")))
    tray.put(
        "b.parquet",
        as_parquet(
            event_id=pa.array(["e2"]),
            occurred_at=pa.array([NOON.replace(tzinfo=None)], pa.timestamp("ns")),
            kind=pa.array(["page_visited"]).dictionary_encode(),
        ),
    )
    tray.take_in()
    assert [row[1] for row in tray.events()] == [NOON, NOON]


SENDGRID: list[tuple[str, dict[str, Any], str]] = [
    ("processed", {}, "email_sent"),
    ("delivered", {}, "email_delivered"),
    ("open", {}, "email_opened"),
    ("click", {"url": "https://example.com"}, "email_clicked"),
    ("bounce", {"type": "bounce"}, "email_hard_bounced"),
    ("bounce", {"type": "blocked"}, "email_soft_bounced"),
    ("unsubscribe", {}, "email_unsubscribed"),
    ("group_unsubscribe", {"asm_group_id": 3}, "email_unsubscribed"),
    ("group_resubscribe", {"asm_group_id": 3}, "custom_email_resubscribed"),
    ("spamreport", {}, "email_complained"),
    ("deferred", {"attempt": "5"}, "custom_email_deferred"),
    ("dropped", {"reason": "Bounced Address"}, "custom_email_dropped"),
]


def test_sendgrids_webhook_is_read_as_it_is_sent(tray: Tray) -> None:
    body = [
        {
            "email": "ann@example.com",
            "timestamp": int(NOON.timestamp()),
            "sg_event_id": f"{number:02}",
            "sg_message_id": "m1",
            "category": ["spring"],
            "event": name,
            **facts,
        }
        for number, (name, facts, _) in enumerate(SENDGRID)
    ]
    tray.put("post-1.json", json.dumps([*body, {**body[0], "sg_event_id": "x", "event": "odd"}]))
    tray.put("post-2.json", json.dumps(body[::-1]))
    first, second = tray.take_in().files
    assert (first.loaded, first.rejected, second.known) == (len(SENDGRID), 1, len(SENDGRID))
    found = tray.events()
    assert [row[2] for row in found] == [kind for _, _, kind in SENDGRID]
    assert found[3] == (
        *("sendgrid:03", NOON, "email_clicked", "ann@example.com", None, "spring", "email"),
        *("sendgrid", "https://example.com", {"sg_message_id": "m1", "category": ["spring"]}),
    )
    assert tray.rejected() == [
        ("post-1.json", 13, "event", "is none of SendGrid's events about mails that we know")
    ]


POSTMARK: list[tuple[dict[str, Any], str]] = [
    ({"RecordType": "Delivery", "DeliveredAt": "T", "Recipient": "R"}, "email_delivered"),
    ({"RecordType": "Open", "ReceivedAt": "T", "Recipient": "R"}, "email_opened"),
    (
        {"RecordType": "Click", "ReceivedAt": "T", "Recipient": "R", "OriginalLink": "https://a"},
        "email_clicked",
    ),
    (
        {"RecordType": "Bounce", "ID": 1, "Type": "HardBounce", "BouncedAt": "T", "Email": "R"},
        "email_hard_bounced",
    ),
    (
        {"RecordType": "Bounce", "ID": 2, "Type": "SoftBounce", "BouncedAt": "T", "Email": "R"},
        "email_soft_bounced",
    ),
    ({"RecordType": "SpamComplaint", "ID": 3, "BouncedAt": "T", "Email": "R"}, "email_complained"),
    (
        {
            "RecordType": "SubscriptionChange",
            "ChangedAt": "T",
            "Recipient": "R",
            "SuppressSending": True,
            "SuppressionReason": "ManualSuppression",
        },
        "email_unsubscribed",
    ),
    (
        {
            "RecordType": "SubscriptionChange",
            "ChangedAt": "T",
            "Recipient": "R2",
            "SuppressSending": False,
            "SuppressionReason": None,
        },
        "custom_email_resubscribed",
    ),
]


def test_postmarks_webhooks_are_read_as_they_are_sent(tray: Tray) -> None:
    words = {"T": "2026-03-02T12:00:00.0000000Z", "R": "Ann@example.com", "R2": "bo@example.com"}
    for number, (body, _) in enumerate(POSTMARK):
        sent = {k: words.get(str(v), v) for k, v in body.items()}
        sent |= {"MessageID": "m1", "Tag": "spring", "Metadata": {"crm_id": "00Q5g00000AbCdE"}}
        tray.put(f"{number}.json", json.dumps(sent))
        tray.put(f"{number}-again.json", json.dumps(sent))
    intake = tray.take_in()
    assert (intake.loaded, intake.known, intake.rejected) == (len(POSTMARK), len(POSTMARK), 0)
    found = tray.events()
    assert sorted(row[2] for row in found) == sorted(kind for _, kind in POSTMARK)
    assert {row[1] for row in found} == {NOON}
    assert {row[4:8] for row in found} == {("00Q5g00000AbCdEEAV", "spring", "email", "postmark")}


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("a.csv", b"", "no header"),
        ("a.csv", b"event_id,occurred_at,kind,emial\n", "'emial' is none"),
        ("a.csv", b"event_id;occurred_at;kind\n", "separated by commas"),
        ("a.csv", b"2026-03-02T12:00:00Z,ann@example.com\n", "no header"),
        ("a.csv", b"event_id,occurred_at\n", "kind is missing"),
        ("a.csv", b"event_id,occurred_at,kind,kind\n", "kind stands in it twice"),
        ("a.csv", "event_id,occurred_at,kind\n".encode("utf-16"), "UTF-16"),
        ("a.csv.gz", b"no gzip", "broken"),
        ("a.jsonl.gz", gzip.compress(lines(event()).encode())[:-9], "breaks off"),
        ("a.jsonl.gz", gzip.compress((b" " * 999 + b"\n") * 80_000), "more than 200 times"),
        ("a.jsonl", b'{"a": "' + b"x" * (3 << 20), "longer than"),
        ("a.json", b'[{"a": 1}, ', "broken JSON at line 1"),
        ("a.json", b"[" * 100_000, "broken JSON"),
        ("a.parquet", b"PAR1", "no Parquet file"),
        ("a.parquet", FULL_PARQUET[:-20], "no Parquet file"),
        ("a.parquet", as_parquet(a=pa.array([1])), "'a' is none"),
    ],
)
def test_a_file_that_is_no_file_of_events_is_refused_whole_and_not_tried_again(
    tray: Tray, name: str, content: bytes, reason: str
) -> None:
    tray.put(name, content)
    tray.put("good.jsonl", lines(event()))
    intake = tray.take_in()
    [refused] = intake.refused
    assert reason in str(refused.refusal)
    assert (refused.file, intake.loaded) == (name, 1)
    assert tray.take_in().files == ()
    assert tray.leftovers() == []
