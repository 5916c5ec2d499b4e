"""What is measured, in which order, and against what.

Belongs here: the sequence of one bench, from an empty warehouse to a table that has lived. Does not
belong here: how a thing is timed (workbench.py).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from engine_process import EngineRun
from figures import Chapter, Figure
from workbench import Workbench, median

from crm_pipeline.model.sync import SyncMode

FIRST_AIM, REPEATED_AIM, FLOOR_AIM = 0.9, 0.6, 1.5
MEMORY_AIM_MB, CALLS_AIM = 100, 25


@dataclass(frozen=True)
class Yardstick:
    """Seconds of limit and floor over one full read."""

    limit: float
    floor: float


def first_full(bench: Workbench, chapter: Chapter) -> Yardstick:
    """Limit, floor and the first full sync, in turn."""
    question = bench.question(SyncMode.FULL)
    files = bench.files(question)
    size = sum(file.stat().st_size for file in files)
    limits: list[float] = []
    floors: list[float] = []
    runs: list[EngineRun] = []
    for _ in range(bench.turns):
        limits.append(bench.limit(question, files))
        floors.append(bench.floor(question))
        bench.begin_anew()
        runs.append(bench.engine(SyncMode.FULL))
    stick = Yardstick(median(limits), median(floors))
    rate = f"{bench.records / stick.limit:,.0f} rows a second"
    width = f"{len(bench.subject.fields)} fields, {size / bench.records:,.0f} bytes a record"
    bench.drop_files()
    of_floor = f"{stick.limit / stick.floor:.2f} x COPY"
    detail = f"{runs[-1].api_calls} API calls"
    chapter.figures += [
        Figure("limit: COPY, then the key", seconds(stick.limit), "1", detail=f"{rate}; {width}"),
        Figure("floor: two bare streams, then the key", seconds(stick.floor), of_floor),
        of_limit("first full sync", stick.limit, runs, FIRST_AIM, detail),
    ]
    return stick


def repeated_full(
    bench: Workbench, chapter: Chapter, stick: Yardstick, percent: int, aim: float | None
) -> None:
    """A full sync over a table that lives, of which a share has changed."""
    runs = []
    for _ in range(bench.turns):
        if percent:
            bench.org.change(bench.records * percent // 100)
        bench.prepare(bench.question(SyncMode.FULL))
        runs.append(bench.engine(SyncMode.FULL))
    what = f"full sync again, {percent} % changed"
    detail = f"{runs[-1].updated:,} rows written"
    chapter.figures.append(of_limit(what, stick.limit, runs, aim, detail))


def differential(bench: Workbench, chapter: Chapter, count: int, aim: float | None) -> None:
    """So many changed records, by the engine and by the bare script."""
    runs: list[EngineRun] = []
    floors: list[float] = []
    for _ in range(bench.turns):
        since = bench.runs[-1].watermark
        if count:
            bench.org.change(count)
        question = bench.question(SyncMode.DIFFERENTIAL, since)
        bench.prepare(question)
        run = bench.engine(SyncMode.DIFFERENTIAL)
        runs.append(run)
        floors.append(bench.floor_of_changes(question, run.transport))
    ours, floor = median([run.seconds for run in runs]), median(floors)
    ratio = ours / floor
    chapter.figures.append(
        Figure(
            f"differential of {count:,}",
            seconds(ours),
            f"{ratio:.1f} x the floor of {seconds(floor)}",
            f"at most {aim}" if aim else "",
            ratio <= aim if aim else None,
            f"{runs[-1].transport}, {runs[-1].updated:,} rows written, {runs[-1].api_calls} calls",
        )
    )


def census(bench: Workbench, chapter: Chapter, mode: SyncMode) -> None:
    """A reconciliation or a refresh, beside COPY of the few bytes that it reads."""
    if mode is SyncMode.REFRESH:
        bench.org.recalculate(bench.records // 100)
    question = bench.question(mode)
    files = bench.files(question)
    limit = bench.repeated(lambda: bench.limit(question, files))
    runs = [bench.engine(mode) for _ in range(bench.turns)]
    what = {
        SyncMode.RECONCILE: "reconciliation, all in step",
        SyncMode.REFRESH: "refresh of one column, 1 % recalculated",
    }[mode]
    size = sum(file.stat().st_size for file in files) / bench.records
    detail = (
        f"limit {seconds(limit)} for its {size:,.0f} bytes a record; {runs[-1].api_calls} calls"
    )
    chapter.figures.append(of_limit(what, limit, runs, None, detail))


def of_limit(
    what: str, limit: float, runs: Sequence[EngineRun], aim: float | None, detail: str
) -> Figure:
    """The engine beside COPY."""
    ours = median([run.seconds for run in runs])
    ratio = limit / ours
    return Figure(
        what,
        seconds(ours),
        f"{ratio:.2f} x COPY",
        f"at least {aim}" if aim else "",
        ratio >= aim if aim else None,
        detail,
    )


def memory(peaks: dict[int, dict[str, int]]) -> Iterator[Figure]:
    """Peak memory by number of records: flat, or not."""
    smallest = min(max(one.values()) for one in peaks.values())
    for records, by_transport in sorted(peaks.items()):
        peak = max(by_transport.values())
        megabytes = peak / 1e6
        yield Figure(
            f"peak memory, {records:,} records",
            f"{megabytes:,.0f} MB",
            f"{peak / smallest:.2f} x the smallest",
            f"below {MEMORY_AIM_MB} MB",
            megabytes < MEMORY_AIM_MB,
            ", ".join(f"{name} {one / 1e6:,.0f} MB" for name, one in by_transport.items()),
        )


def calls(bench: Workbench) -> Figure:
    """API calls of the costliest sync that reads everything, for a million records."""
    costliest = max(run.api_calls for run in bench.runs if run.records_read >= bench.records)
    of_a_million = costliest * 1_000_000 / bench.records
    return Figure(
        "API calls to read a million records",
        f"{of_a_million:,.0f}",
        "",
        f"at most {CALLS_AIM}",
        of_a_million <= CALLS_AIM if bench.records >= 1_000_000 else None,
        f"{costliest} for {bench.records:,}, describe included",
    )


def where_it_goes(bench: Workbench, mode: SyncMode, title: str, changed: int) -> Chapter:
    """One more sync, with its phases."""
    if changed:
        bench.org.change(changed)
    since = bench.runs[-1].watermark if mode is SyncMode.DIFFERENTIAL else None
    bench.prepare(bench.question(mode, since))
    run = bench.engine(mode, profile=True)
    chapter = Chapter(f"Where the time goes: {title}")
    for phase, taken in sorted(run.phases.items(), key=lambda pair: -pair[1]):
        share = f"{taken / run.seconds:.0%}"
        chapter.figures.append(Figure(phase, seconds(taken), share))
        chapter.figures += [
            Figure(f"... `{statement.removeprefix(f'{phase}: ')}`", seconds(part), "")
            for statement, part in sorted(run.statements.items(), key=lambda pair: -pair[1])
            if statement.startswith(f"{phase}: ") and part > run.seconds / 50
        ]
    return chapter


def seconds(taken: float) -> str:
    """As people read it."""
    return f"{taken:.2f} s" if taken < 100 else f"{taken:.0f} s"
