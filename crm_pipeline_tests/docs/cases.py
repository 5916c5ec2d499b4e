"""The tests of each case, as the names of tests tell them, and the column that shows them.

`python -m crm_pipeline_tests.docs.cases` writes the last column of docs/reference/cases.md. Belongs
here: finding tests and writing that column. Does not belong here: the sentences (the page itself).
"""

import ast
import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

ROOT = Path(__file__).parents[2]
TESTS = ROOT / "crm_pipeline_tests"
PAGE = ROOT / "docs" / "reference" / "cases.md"
PARTS = {"A": 17, "B": 11, "C": 13, "D": 13, "E": 18, "F": 12, "G": 15, "H": 29, "S": 18, "O": 4}
"""How many cases each part of the contract has."""

CASES = tuple(f"{part}{number}" for part, count in PARTS.items() for number in range(1, count + 1))
_IDS = re.compile(r"test_((?:[a-hso]\d+_)+)")
_ROW = re.compile(r"^\| ([A-HSO]\d+) \|.*\|$", re.MULTILINE)


@dataclass(frozen=True, slots=True, order=True)
class CaseTest:
    """One test that names cases.

    Attributes:
        is_kept: not marked as one that fails today.
    """

    file: Path
    name: str
    is_kept: bool

    @property
    def cases(self) -> tuple[str, ...]:
        """The ids in its name."""
        found = _IDS.match(self.name)
        return tuple(found[1].upper().split("_")[:-1]) if found else ()

    @property
    def link(self) -> str:
        """How the page shows it."""
        address = Path("../..") / self.file.relative_to(ROOT)
        return f"[`{self.name}`]({address}){'' if self.is_kept else ' (not kept yet)'}"


def tests_in(file: Path) -> Iterator[CaseTest]:
    """The tests of a file whose names begin with ids of cases."""
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.FunctionDef) and _IDS.match(node.name):
            marks = "".join(ast.unparse(one) for one in node.decorator_list)
            yield CaseTest(file, node.name, is_kept="mark.xfail" not in marks)


def named_by_case() -> dict[str, list[CaseTest]]:
    """The tests of each case, in the order of files and names."""
    found = defaultdict(list)
    for file in sorted(TESTS.rglob("test_*.py")):
        for test in sorted(tests_in(file)):
            for case in test.cases:
                found[case].append(test)
    return found


def rows_of(page: str) -> list[list[str]]:
    """The cells of each row that begins with an id."""
    return [[cell.strip() for cell in row[0].strip("|").split("|")] for row in _ROW.finditer(page)]


def with_tests(page: str) -> str:
    """The page with its last column as the names of the tests tell it now."""
    tests = named_by_case()

    def row(found: re.Match[str]) -> str:
        *cells, _ = found[0].strip("|").split("|")
        links = "<br>".join(test.link for test in tests[found[1]])
        return f"|{'|'.join(cells)}| {links} |"

    return _ROW.sub(row, page)


def not_shown() -> list[str]:
    """Cases without a test, or with one that fails today."""
    tests = named_by_case()
    return [case for case in CASES if not all(test.is_kept for test in tests[case] or [_NONE])]


_NONE = CaseTest(PAGE, "", is_kept=False)


def main() -> None:
    """Write the page, and say which cases are not shown yet."""
    PAGE.write_text(with_tests(PAGE.read_text()))
    for part, cases in groupby(not_shown(), key=lambda case: case[0]):
        print(part, *cases)  # noqa: T201 - the command's answer


if __name__ == "__main__":
    main()
