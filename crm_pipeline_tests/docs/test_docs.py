"""The documentation keeps up with the code: nothing is left out, and nothing leads nowhere."""

import inspect
import re
import shlex
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args, get_origin

import psycopg
import pytest
from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined
from typer.main import get_command

from crm_pipeline import errors
from crm_pipeline.cli.main import app
from crm_pipeline.config.environment import Environment
from crm_pipeline.config.load import load_settings
from crm_pipeline.config.settings import EXPRESSIBLE_INTERVALS, Settings
from crm_pipeline.config.write_back_settings import FieldsOfPeople
from crm_pipeline.crm.salesforce import fields as salesforce_fields
from crm_pipeline.model.audiences import FACTS
from crm_pipeline.model.sync import Vanished
from crm_pipeline.sandbox.salesforce import control, faults, server
from crm_pipeline.sync.reference import REFERENCE_DATASETS
from crm_pipeline.warehouse.schema import BOOKKEEPING, COLUMN_TYPES, column_types

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = sorted((*DOCS.rglob("*.md"), ROOT / "README.md", ROOT / "CHANGELOG.md"))
DECISIONS = sorted((DOCS / "decisions").glob("*.md"))
WORDS = (
    *("CRM object", "connector", "object selection", "record filter", "field mapping"),
    *("full sync", "differential sync", "cursor field", "watermark", "sync run", "tombstone"),
    *("write-back", "outbox", "action", "consent status", "reference data", "sandbox org"),
)
COMPUTED_DEFAULTS = {
    "objects.<name>.table": "the name in lower case",
    "objects.<name>.fields[].column": "the field in lower case, dots as `_`",
}


def page(name: str) -> str:
    return (DOCS / name).read_text()


def named(path: Path) -> str:
    return str(path.relative_to(ROOT))


def prose(text: str) -> str:
    """A page without its code blocks."""
    return re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE)


def table_rows(text: str) -> list[list[str]]:
    """The cells of every row of every table."""
    lines = [line for line in prose(text).splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def first_column(text: str) -> set[str]:
    """What the first cells of all tables name in backticks."""
    return {name for row in table_rows(text) for name in re.findall(r"`([^`]+)`", row[0])}


def slug(heading: str) -> str:
    """How a heading is linked to."""
    plain = re.sub(r"[^\w\- ]", "", heading.strip().lower())
    return plain.replace(" ", "-")


def slugs_in(file: Path) -> set[str]:
    return {
        slug(found) for found in re.findall(r"^#+ (.+)$", prose(file.read_text()), re.MULTILINE)
    }


def links_of(file: Path) -> list[str]:
    """The relative links of a page."""
    found = re.findall(r"\[[^\]]*\]\(([^)\s]+)\)", prose(file.read_text()))
    return [link for link in found if not re.match(r"[a-z]+:", link)]


def first_yaml(text: str) -> str:
    """The first block of YAML that a page shows."""
    found = re.search(r"^```yaml\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    assert found is not None
    return found[1]


# Settings


def sections(model: type[BaseModel], path: str = "") -> Iterator[tuple[str, FieldInfo]]:
    """Every setting that has no settings below it, by its path in the file."""
    for name, field in model.model_fields.items():
        here = f"{path}{name}"
        annotation = field.annotation
        inner = [annotation, *get_args(annotation)]
        below = [
            one
            for one in inner
            if isinstance(one, type) and issubclass(one, BaseModel) and one is not FieldsOfPeople
        ]
        if not below:
            yield here, field
        elif annotation in below:
            yield from sections(below[0], f"{here}.")
        else:
            yield here, field
            many = ".<name>." if get_origin(annotation) is dict else "[]."
            yield from sections(below[0], f"{here}{many}")


SETTINGS = dict(sections(Settings))


def shown_default(path: str, field: FieldInfo) -> str:
    if path in COMPUTED_DEFAULTS:
        return COMPUTED_DEFAULTS[path]
    value = field.default
    if value is None or value is PydanticUndefined:
        return "none" if value is None else "required"
    if isinstance(value, FieldsOfPeople):
        return ", ".join(f"`{name}` of {owner}" for owner, name in value.by_object.items())
    if isinstance(value, tuple):
        value = list(value)
    elif isinstance(value, bool):
        value = str(value).lower()
    return f'`"{value}"`' if path == "crm.api_version" else f"`{value}`"


@pytest.mark.parametrize("path", SETTINGS)
def test_every_setting_is_documented_with_its_default(path: str) -> None:
    rows = {row[0]: row for row in table_rows(page("reference/settings.md")) if len(row) == 4}
    assert f"`{path}`" in rows, f"write a row for `{path}` into docs/reference/settings.md"
    assert rows[f"`{path}`"][1] == shown_default(path, SETTINGS[path])


def test_no_setting_is_documented_that_does_not_exist() -> None:
    text = page("reference/settings.md").partition("## Environment variables")[0]
    documented = {row[0].strip("`") for row in table_rows(text) if len(row) == 4}
    assert documented - {"setting", "---"} == SETTINGS.keys()


@pytest.mark.parametrize(("path", "field"), SETTINGS.items())
def test_the_bounds_of_every_number_are_documented(path: str, field: FieldInfo) -> None:
    row = next(r for r in table_rows(page("reference/settings.md")) if r[0] == f"`{path}`")
    for bound in field.metadata:
        for limit in (getattr(bound, "ge", None), getattr(bound, "le", None)):
            assert limit is None or str(limit) in row[2], f"`{path}` has the bound {limit}"


def test_the_intervals_are_documented() -> None:
    listed = ", ".join(str(interval) for interval in EXPRESSIBLE_INTERVALS)
    assert listed in page("reference/settings.md")


def test_the_example_of_settings_loads_and_shows_every_setting(tmp_path: Path) -> None:
    example = first_yaml(page("reference/settings.md"))
    file = tmp_path / "crm_sync.yaml"
    file.write_text(example)
    load_settings(file)
    for path in SETTINGS:
        name = path.rpartition(".")[2]
        assert re.search(rf"\b{name}\b", example), path


def test_a_custom_object_is_added_by_three_lines_that_load(tmp_path: Path) -> None:
    text = page("how-to/custom-object.md")
    header, *lines = first_yaml(text).splitlines()
    assert (header, len(lines)) == ("objects:", 3)
    file = tmp_path / "crm_sync.yaml"
    file.write_text("version: 1\n" + first_yaml(text))
    [(name, chosen)] = load_settings(file).objects.items()
    assert chosen.columns[-1].column in text
    assert chosen.table_name(name) in text


def test_every_column_that_a_condition_may_look_at_is_documented() -> None:
    assert set(FACTS) <= first_column(page("how-to/audiences.md"))


# Environment variables


def variables_in_the_code() -> set[str]:
    files = [*(ROOT / "crm_pipeline").rglob("*.py"), *(ROOT / "crm_pipeline").rglob("*.yaml")]
    files += (ROOT / "dbt_marketing").rglob("*.yml")
    text = "\n".join(file.read_text() for file in files)
    return set(re.findall(r"\b((?:CRM_PIPELINE|SALESFORCE)_[A-Z_]*[A-Z])\b", text))


def test_every_environment_variable_is_documented() -> None:
    documented = first_column(page("reference/settings.md"))
    read = {str(field.validation_alias) for field in Environment.model_fields.values()}
    assert read <= documented
    assert variables_in_the_code() <= documented


def test_no_page_names_a_variable_that_nothing_reads() -> None:
    known = variables_in_the_code() | {"CRM_PIPELINE_TEST_DATABASE_URL"}
    for file in PAGES:
        names = set(re.findall(r"\b(?:CRM_PIPELINE|SALESFORCE)_[A-Z_]*[A-Z]\b", file.read_text()))
        assert names <= known, named(file)


# Errors


def test_the_tree_of_errors_is_the_one_in_the_code() -> None:
    _, tree, *_ = inspect.cleandoc(errors.__doc__ or "").split("\n\n")
    assert f"```text\n{textwrap.dedent(tree)}\n```" in page("reference/errors.md")


def test_every_error_has_its_chapter_in_the_order_of_the_tree() -> None:
    own = [
        name
        for name, one in vars(errors).items()
        if inspect.isclass(one) and issubclass(one, Exception)
    ]
    assert errors.__doc__ is not None
    drawn = re.findall(r"(?:^    |── )([A-Z]\w+)", errors.__doc__, re.MULTILINE)
    assert sorted(drawn) == sorted(own)
    chapters = re.findall(r"^##+ (\w+)$", page("reference/errors.md"), re.MULTILINE)
    assert chapters == drawn


# Tables


def test_every_bookkeeping_column_and_type_is_documented() -> None:
    rows = table_rows(page("reference/tables.md"))
    for name, (definition, _) in BOOKKEEPING.items():
        column_type = definition.removesuffix(" NOT NULL DEFAULT now()")
        assert [f"`{name}`", f"`{column_type}`"] in [row[:2] for row in rows]
    for value_type, column_type in COLUMN_TYPES.items():
        row = next(row for row in rows if len(row) == 3 and row[1] == value_type.value)
        assert f"`{column_type}`" in row[2]
        natives = {n for n, t in vars(salesforce_fields)["_TYPES"].items() if t is value_type}
        assert natives - {"anyType"} <= set(re.split(r",? |, ", row[0])), value_type


def test_every_way_to_vanish_is_documented() -> None:
    documented = first_column(page("reference/tables.md"))
    assert set(Vanished) <= documented


def test_every_reference_table_is_documented() -> None:
    documented = first_column(page("reference/tables.md"))
    assert {dataset.table for dataset in REFERENCE_DATASETS} <= documented


def test_every_control_table_and_column_of_the_status_is_documented(database_url: str) -> None:
    documented = first_column(page("reference/tables.md"))
    with psycopg.connect(database_url) as connection:
        relations = connection.execute(
            "SELECT relname FROM pg_class WHERE relnamespace = 'crm_sync'::regnamespace"
            " AND relkind IN ('r', 'v')"
        ).fetchall()
        status = column_types(connection, "crm_sync", "sync_status")
    assert {name for (name,) in relations} <= documented
    assert status.keys() <= documented


# The sandbox org


def test_every_path_of_the_sandbox_org_is_documented() -> None:
    documented = first_column(page("how-to/sandbox-org.md"))
    routes = vars(server)
    paths = [path for path, _ in (*routes["_OPEN_ROUTES"], *routes["_DATA_ROUTES"]) if path]
    paths += [path for path, _ in routes["_CONTROL_ROUTES"] if "{command}" not in path]
    paths += [f"/sandbox/{command}" for command in vars(control)["_COMMANDS"]]
    assert {path.replace(":path}", "}") for path in paths} <= documented


def test_every_kind_of_fault_is_documented() -> None:
    documented = first_column(page("how-to/sandbox-org.md"))
    assert set(get_args(faults.FaultKind)) <= documented


# Words, decisions, links, commands


@pytest.mark.parametrize("word", WORDS)
def test_the_glossary_explains_the_word(word: str) -> None:
    explained = {row[0]: row for row in table_rows(page("glossary.md"))}
    assert explained[f"**{word}**"][1]


def test_decisions_are_numbered_without_gaps() -> None:
    numbers = [int(file.name[:4]) for file in DECISIONS]
    assert numbers == list(range(1, len(DECISIONS) + 1))


@pytest.mark.parametrize("file", DECISIONS, ids=lambda file: file.stem)
def test_a_decision_says_status_context_decision_and_consequences(file: Path) -> None:
    headings = re.findall(r"^#+ (.+)$", file.read_text(), re.MULTILINE)
    assert headings[0].startswith(f"{int(file.name[:4])}. ")
    assert headings[1:] == ["Status", "Context", "Decision", "Consequences"]
    assert f"decisions/{file.name}" in page("index.md")


@pytest.mark.parametrize("file", PAGES, ids=named)
def test_every_relative_link_leads_somewhere(file: Path) -> None:
    for link in links_of(file):
        path, _, heading = link.partition("#")
        target = (file.parent / path).resolve() if path else file
        assert target.exists(), f"{named(file)} links to {link}"
        if heading:
            assert heading in slugs_in(target), f"{named(file)} links to {link}"


def test_every_page_can_be_reached_from_the_front() -> None:
    reached, ahead = set[Path](), [ROOT / "README.md", DOCS / "index.md"]
    while ahead:
        file = ahead.pop()
        if file in reached or file.suffix != ".md" or not file.exists():
            continue
        reached.add(file)
        ahead += [(file.parent / link.partition("#")[0]).resolve() for link in links_of(file)]
    assert set(DOCS.rglob("*.md")) <= reached


def commands_in(text: str) -> Iterator[list[str]]:
    """Command lines that a page shows, in code blocks and in backticks."""
    blocks = re.findall(r"^```(?:sh|console)\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    spans = [line for block in blocks for line in block.replace("\\\n", " ").splitlines()]
    spans += re.findall(r"`((?:crm-pipeline|make) [^`\n]+)`", prose(text))
    for span in spans:
        found = re.search(r"(?:^|[;(\s])((?:crm-pipeline|make)\s[^|;)<>#]*)", span)
        if found:
            yield shlex.split(found[1].strip().strip('"'))


def options_of(command: Any) -> set[str]:
    return {option for parameter in command.params for option in parameter.opts} | {"--help"}


def complaint(line: list[str]) -> str | None:
    """Why a `crm-pipeline` line cannot be run."""
    root = get_command(app)
    command: Any = root
    for word in line[1:]:
        if word.startswith("-") and word != "-":
            if word.partition("=")[0] not in options_of(command) | options_of(root):
                return f"{command.name} has no option {word}"
        elif hasattr(command, "commands"):
            if word not in command.commands:
                return f"{command.name} has no command {word}"
            command = command.commands[word]
    return None


@pytest.mark.parametrize("file", PAGES, ids=named)
def test_every_command_that_is_shown_exists(file: Path) -> None:
    targets = set(re.findall(r"^([a-z-]+):.*## ", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for line in commands_in(file.read_text()):
        if line[0] == "make":
            assert {w for w in line[1:] if "=" not in w} <= targets, " ".join(line)
        else:
            assert complaint(line) is None, f"{' '.join(line)}: {complaint(line)}"


@pytest.mark.parametrize("file", PAGES, ids=named)
def test_pages_keep_to_the_house_style(file: Path) -> None:
    text = prose(re.sub(r"<!--.*?-->", "", file.read_text(), flags=re.DOTALL))
    assert "!" not in re.sub(r"`[^`\n]*`", "", text), "no exclamation marks"
    assert not re.search(r"(?<![\w.])/(?:home|root|work|Users)/", file.read_text()), "no own paths"
    assert text.count("\n# ") + text.startswith("# ") == 1, "one title"


def test_the_changelog_knows_the_version_of_the_project() -> None:
    version = re.search(r'^version = "(.+)"', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    assert version is not None
    assert f"## {version[1]}" in (ROOT / "CHANGELOG.md").read_text()
