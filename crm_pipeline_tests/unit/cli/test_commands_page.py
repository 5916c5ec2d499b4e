"""docs/reference/commands.md and the command line say the same."""

import re
from pathlib import Path

import pytest
import typer.main

from crm_pipeline.cli.main import app

PAGE = (Path(__file__).parents[3] / "docs" / "reference" / "commands.md").read_text()
ROOT = typer.main.get_command(app)


def commands() -> dict[str, list[str]]:
    """Options of every command by its full name."""
    found: dict[str, list[str]] = {}

    def walk(name: str, command: object) -> None:
        below = getattr(command, "commands", None)
        if below is None:
            options = [o for p in command.params for o in p.opts]  # type: ignore[attr-defined]
            found[name] = [o for o in options if o.startswith("--") and o != "--help"]
            return
        for child, one in below.items():
            walk(f"{name} {child}", one)

    walk("crm-pipeline", ROOT)
    return found


def section(name: str) -> str:
    match = re.search(rf"^## {re.escape(name)}\n(.*?)(?=^## |\Z)", PAGE, re.DOTALL | re.MULTILINE)
    assert match, f"{name} has no section"
    return match[1]


def test_every_command_has_a_section_and_every_section_a_command() -> None:
    sections = set(re.findall(r"^## (crm-pipeline .*)$", PAGE, re.MULTILINE))
    assert sections == set(commands())


@pytest.mark.parametrize("name", commands())
def test_the_page_lists_exactly_the_options(name: str) -> None:
    listed = re.findall(r"^\| `(--[a-z-]+)` \|", section(name), re.MULTILINE)
    assert sorted(listed) == sorted(commands()[name])


@pytest.mark.parametrize("name", commands())
def test_the_page_has_an_example(name: str) -> None:
    assert "```sh" in section(name)


def test_every_command_has_help_and_an_example() -> None:
    def walk(name: str, command: object) -> None:
        below = getattr(command, "commands", None)
        assert command.help, name  # type: ignore[attr-defined]
        if below is None:
            assert "Example: " in (command.epilog or ""), name  # type: ignore[attr-defined]
        for child, one in (below or {}).items():
            walk(f"{name} {child}", one)

    walk("crm-pipeline", ROOT)
