"""The lock file serves everybody: public hosts only, every file by its hash, nothing forgotten."""

import re
import tomllib
from pathlib import Path
from urllib.parse import urlsplit

import pytest

ROOT = Path(__file__).parents[2]
PUBLIC_HOSTS = {"pypi.org", "files.pythonhosted.org"}


@pytest.fixture(scope="module")
def lock() -> str:
    return (ROOT / "uv.lock").read_text()


def test_the_lock_file_names_public_hosts_only(lock: str) -> None:
    addresses = re.findall(r"[a-z+]+://[^\s\"']+", lock)
    assert {urlsplit(address).hostname for address in addresses} == PUBLIC_HOSTS


def test_the_lock_file_takes_every_package_from_the_index(lock: str) -> None:
    packages = tomllib.loads(lock)["package"]
    ours = [package["name"] for package in packages if "registry" not in package["source"]]
    assert ours == ["crm-pipeline"]


def test_every_locked_file_has_a_hash(lock: str) -> None:
    for package in tomllib.loads(lock)["package"]:
        sdist = [package["sdist"]] if "sdist" in package else []
        for file in [*sdist, *package.get("wheels", [])]:
            assert file["hash"].startswith("sha256:"), file["url"]


def test_the_lock_file_knows_every_dependency_of_the_project(lock: str) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    ours = next(p for p in tomllib.loads(lock)["package"] if p["name"] == "crm-pipeline")
    metadata = ours["metadata"]
    assert _names(project["project"]["dependencies"]) == _locked(metadata["requires-dist"])
    development = metadata["requires-dev"]["dev"]
    assert _names(project["dependency-groups"]["dev"]) == _locked(development)


def test_the_tool_that_reads_the_lock_file_is_pinned_by_hash() -> None:
    lines = (ROOT / "scripts/uv-requirements.txt").read_text().splitlines()
    assert re.fullmatch(r"uv==\d+\.\d+\.\d+ \\", lines[0])
    assert all(line.strip().startswith("--hash=sha256:") for line in lines[1:])


def _names(requirements: list[str]) -> set[str]:
    return {re.split(r"[\[<>=~!; ]", requirement, maxsplit=1)[0] for requirement in requirements}


def _locked(entries: list[dict[str, str]]) -> set[str]:
    return {entry["name"] for entry in entries}
