"""The two READMEs are one text: the same commands, in the same order, and links that lead somewhere."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = sorted([*ROOT.glob("README*.md"), *(ROOT / "docs").glob("*.md")])
BLOCK = re.compile(r"^```(?:sh|toml|python)\n(.*?)^```", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([^)\s]+)\)")


def code(page: Path) -> list[str]:
    """Return the lines of code of a page, without what is said beside them."""
    lines = "".join(BLOCK.findall(page.read_text("utf-8"))).splitlines()
    return [bare for line in lines if (bare := re.sub(r"\s+#.*", "", line).rstrip())]


def anchors(page: Path) -> set[str]:
    heads = re.findall(r"^#+ (.*)", page.read_text("utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", head.lower()).replace(" ", "-") for head in heads}


def test_both_readmes_have_the_same_commands() -> None:
    assert code(ROOT / "README.zh.md") == code(ROOT / "README.md")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for link in LINK.findall(page.read_text("utf-8")):
        if not link.startswith(("http:", "https:")):
            file, _, anchor = link.partition("#")
            target = page.parent / file if file else page
            assert target.exists(), link
            assert not anchor or anchor in anchors(target), link
