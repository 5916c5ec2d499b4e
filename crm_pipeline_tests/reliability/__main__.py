"""`make reliability`: runs every proof, prints the table of figures, writes it into the docs.

    python -m crm_pipeline_tests.reliability            the short form, some minutes
    python -m crm_pipeline_tests.reliability --long     the long form, about an hour on two cores
    python -m crm_pipeline_tests.reliability --only M2,M4 --seed 7

Belongs here: which proofs run, two at a time, each in a process of its own. Does not belong here:
the proofs (proofs.py), the table (figures.py).
"""

import argparse
import os
import pickle
import platform
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import stamina
from rich.console import Console

from crm_pipeline_tests.reliability.figures import Figure, show, write
from crm_pipeline_tests.reliability.proofs import LONG, PROOFS, SHORT, Size
from crm_pipeline_tests.reliability.victims import ATTEMPTS

PAGE = Path(__file__).parents[2] / "docs" / "reliability.md"
_WORKERS = 2


def main() -> int:
    """Run, print, write."""
    parser = argparse.ArgumentParser(prog="make reliability")
    parser.add_argument("--long", action="store_true", help="the long form")
    parser.add_argument("--only", default="", help="figures, such as M2,M4")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--write", action="store_true", help="write the table into the docs")
    parser.add_argument("--proof", help=argparse.SUPPRESS)
    parser.add_argument("--into", type=Path, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    size = LONG if asked.long else SHORT
    if asked.proof:
        _prove(asked.proof, size, asked.seed, asked.into)
        return 0
    console = Console(width=None if sys.stdout.isatty() else 160)
    chosen = [p for p in PROOFS if not asked.only or p.partition(" ")[0] in asked.only.split(",")]
    console.print(f"{len(chosen)} proofs, {size.name} form, seed {asked.seed}")
    figures = _all(chosen, size, asked.seed, console)
    show(figures, console)
    if asked.write:
        write(figures, PAGE, _preface(size, asked.seed))
    return 0 if all(figure.is_reached for figure in figures) else 1


def _prove(name: str, size: Size, seed: int, into: Path) -> None:
    stamina.instrumentation.set_on_retry_hooks([])
    with stamina.set_testing(True, attempts=ATTEMPTS, cap=True):
        figures = PROOFS[name](size, seed)
    into.write_bytes(pickle.dumps(figures))


def _all(names: Sequence[str], size: Size, seed: int, console: Console) -> list[Figure]:
    """Every proof in a process of its own: none can spoil, or hide behind, another."""
    with tempfile.TemporaryDirectory(prefix="reliability-") as folder:

        def run(name: str) -> list[Figure]:
            into = Path(folder) / name.replace(" ", "-")
            words = ["--proof", name, "--into", str(into), "--seed", str(seed)]
            words += ["--long"] if size is LONG else []
            done = subprocess.run(
                [sys.executable, "-m", "crm_pipeline_tests.reliability", *words],
                capture_output=True,
                text=True,
                check=False,
            )
            if done.returncode == 0:
                console.print(f"{datetime.now(UTC):%H:%M:%S} {name}")
                found: list[Figure] = pickle.loads(into.read_bytes())  # noqa: S301 - our own
                if not all(figure.is_reached for figure in found):
                    console.print(done.stderr[-6_000:], markup=False)
                return found
            again = f"python -m crm_pipeline_tests.reliability {' '.join(words[4:])}"
            console.print(f"{name} failed; again: {again} --only {name.partition(' ')[0]}")
            console.print(done.stderr[-6_000:], markup=False)
            return [Figure(name.partition(" ")[0], name, size.name, "-", "it failed", False)]

        with ThreadPoolExecutor(_WORKERS) as pool:
            return [figure for found in pool.map(run, names) for figure in found]


def _preface(size: Size, seed: int) -> list[str]:
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 1024**3
    command = f"make reliability{' LONG=1' if size is LONG else ''}"
    when = f"{datetime.now(UTC):%-d %B %Y}, `{command}` (seed {seed})"
    machine = f"{os.cpu_count()} cores, {memory} GB, {platform.system()} {platform.machine()}"
    return [f"{when}, on {machine}, Python {platform.python_version()}."]


if __name__ == "__main__":
    sys.exit(main())
