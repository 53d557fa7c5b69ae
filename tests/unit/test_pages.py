"""The pages find each other: the index has all of them, and no link leads nowhere."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
INDEX = ROOT / "docs" / "README.md"
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
_FENCED = re.compile(r"```.*?```", re.DOTALL)
_LINK = re.compile(r"\]\(([^)\s]+)\)")


def links(text: str) -> Iterator[str]:
    """Where a page leads to, beside other sites."""
    for link in _LINK.findall(_FENCED.sub("", text)):
        if not re.match(r"[a-z]+:", link):
            yield link


def anchors(text: str) -> set[str]:
    """The places in a page that a link can lead to, as the forges name them."""
    headings = re.findall(r"^#+ (.+)$", _FENCED.sub("", text), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def dead_links(page: Path) -> list[str]:
    """The links of a page that lead to no file, or to no heading of it."""
    found = []
    for link in links(page.read_text("utf-8")):
        path, _, anchor = link.partition("#")
        target = (page.parent / path) if path else page
        if not target.exists() or (anchor and anchor not in anchors(target.read_text("utf-8"))):
            found.append(link)
    return found


def test_the_index_has_every_page() -> None:
    indexed = {
        (INDEX.parent / link.partition("#")[0]).resolve() for link in links(INDEX.read_text())
    }
    missing = {page for page in PAGES if page.is_relative_to(ROOT / "docs")} - indexed - {INDEX}
    assert not missing, f"give {sorted(page.name for page in missing)} a line in docs/README.md"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_leads_somewhere(page: Path) -> None:
    assert dead_links(page) == []


def test_a_dead_link_is_found(tmp_path: Path) -> None:
    (tmp_path / "there.md").write_text("# What `x_y` is, and more\n```\n# not one\n```\n")
    page = tmp_path / "page.md"
    page.write_text(
        "# Here\n[a](there.md) [b](gone.md) [c](#here) [d](#gone) [e](https://nowhere.invalid)"
        "[f](there.md#what-x_y-is-and-more) [g](there.md#not-one)\n```\n[h](code.md)\n```\n"
    )
    assert dead_links(page) == ["gone.md", "#gone", "there.md#not-one"]
