"""The documents hold together: every link leads somewhere, every page is in the site, nothing in it
comes from another server, and what stands in a block is what it says it is.
"""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
import yaml
from documents import PAGES, ROOT, Page

from reasondistill.cli.reference import reference_pages
from reasondistill.config import Pipeline, load_benchmark, load_pipeline
from reasondistill.grading import GradingPool
from reasondistill.stages.problems import run_problems

DOCS = ROOT / "docs"
HOOKS = (DOCS / "hooks.py").read_text(encoding="utf-8")
# Pages that docs/hooks.py adds, by their place in the site, and where those of the top come from.
FROM_THE_TOP = dict(re.findall(r'^    "([\w/]+\.md)": "([\w/.]+)",$', HOOKS, re.M))
MADE = reference_pages() | dict.fromkeys(FROM_THE_TOP, "")
SITE = [page for page in PAGES if page.name.startswith("docs/")]
_LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")
_FENCED = re.compile(r"^```.*?^```$", re.M | re.S)


class Loader(yaml.SafeLoader):
    """Of mkdocs.yml nothing but plain values is wanted."""


def anchors_of(text: str) -> set[str]:
    """What `#…` may name on a page: its headings, and ids that are written down."""
    found: set[str] = set()
    for line in re.findall(r"^#+ (.+)$", _FENCED.sub("", text), re.M):
        kept = re.sub(r"[^\w\s-]", "", line).strip().lower()
        found.add(re.sub(r"[-\s]+", "-", kept))
    written = re.findall(r"\{ #([\w.-]+) \}", text) + re.findall(r'id="([\w.]+)"', text)
    return found | set(written)


def page_at(name: str) -> str | None:
    """The text of a page of the site; None where there is none."""
    if name in MADE:
        return MADE[name]
    path = DOCS / name
    return path.read_text(encoding="utf-8") if path.is_file() and path.suffix == ".md" else None


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_leads_somewhere(page: Page) -> None:
    text = _FENCED.sub("", page.text)
    base = (ROOT / page.name).parent
    for link in _LINK.findall(text):
        if link.startswith("https://"):
            continue
        place, _, anchor = link.partition("#")
        target = (base / place).resolve() if place else ROOT / page.name
        if target.is_relative_to(DOCS) and str(target.relative_to(DOCS)) in MADE:
            found: str | None = MADE[str(target.relative_to(DOCS))]
        else:
            assert target.exists(), f"{page.name}: {link}"
            found = target.read_text(encoding="utf-8") if target.suffix == ".md" else None
        if anchor and found:
            assert anchor in anchors_of(found), f"{page.name}: {link}"


def test_every_test_that_a_page_names_is_there() -> None:
    named = 0
    for page in PAGES:
        for file, test in re.findall(r"`(tests/[\w/]+\.py)(?:::(\w+))?`", page.text):
            assert (ROOT / file).is_file(), f"{page.name}: {file}"
            text = (ROOT / file).read_text(encoding="utf-8")
            assert not test or f"\ndef {test}(" in text, f"{page.name}: {file}::{test}"
            named += 1
    assert named > 50


@pytest.mark.parametrize("name", MADE)
def test_links_of_the_pages_that_are_made_lead_somewhere(name: str) -> None:
    text = MADE[name]
    for link in _LINK.findall(text):
        place, _, anchor = link.partition("#")
        found = text if not place else page_at(str(Path(name).parent / place))
        assert found is not None, f"{name}: {link}"
        assert not anchor or anchor in anchors_of(found), f"{name}: {link}"


def test_every_page_has_its_place_in_the_site() -> None:
    site = yaml.load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"), Loader)
    placed = re.findall(r"'([\w/]+\.md)'", str(site["nav"]))
    assert len(placed) == len(set(placed))
    made = {name for name in MADE if name.endswith(".md")}
    assert set(placed) == made | {page.name.removeprefix("docs/") for page in SITE}
    for source in FROM_THE_TOP.values():
        assert (ROOT / source).is_file()


def test_nothing_of_the_site_comes_from_another_server() -> None:
    text = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    site = yaml.load(text, Loader)
    assert site["theme"]["font"] is False and "http" not in text
    for name in (*site["extra"]["polyfills"], *site["extra_css"]):
        assert (DOCS / name).is_file()
    for page in SITE:
        assert not re.search(r"<(script|img|iframe|link)|!\[[^\]]*\]\(http", page.text), page.name


def test_the_readme_is_short_and_has_a_picture() -> None:
    (readme,) = (page for page in PAGES if page.name == "README.md")
    assert len(readme.text.splitlines()) <= 200
    (picture,) = re.findall(r"^!\[[^\]]{40,}\]\((\S+)\)$", readme.text, re.M)
    assert (ROOT / picture).stat().st_size < 200_000


def test_what_is_toml_is_toml_and_whole_pipelines_are_right(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    whole = 0
    for page in PAGES:
        for block in page.blocks:
            if block.language != "toml":
                continue
            values = tomllib.loads(block.text)
            if "name" in values and "problems" in values and block.title.startswith("pipelines/"):
                (tmp_path / "one.toml").write_text(block.text)
                assert isinstance(load_pipeline(tmp_path / "one.toml"), Pipeline)
                whole += 1
    assert whole


def test_what_is_python_can_be_compiled_and_imports_what_there_is() -> None:
    for page in PAGES:
        for block in page.blocks:
            if block.language == "python" and page.name != "CONTRIBUTING.md":
                compile(block.text, page.name, "exec")
                for line in block.text.splitlines():
                    if line.startswith("from reasondistill"):
                        exec(line.partition("#")[0], {})


def test_the_programs_of_the_page_on_python_run(capsys: pytest.CaptureFixture[str]) -> None:
    (page,) = (page for page in PAGES if page.name == "docs/reference/python.md")
    for block in page.blocks:
        if block.language == "python" and block.title:
            exec(compile(block.text, block.title, "exec"), {"__name__": "__main__"})
    assert capsys.readouterr().out == "4 examples, 0 traces dropped\nTrue\nwrong\n"


def test_the_csv_of_the_tutorial_gives_ten_problems_and_three_to_measure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (page,) = (page for page in PAGES if page.name == "docs/tutorial/own_csv.md")
    monkeypatch.chdir(tmp_path)
    for block in page.blocks:
        if block.title:
            Path(block.title).parent.mkdir(parents=True, exist_ok=True)
            Path(block.title).write_text(block.text)
    pipeline = load_pipeline(Path("pipelines/shop.toml"))
    benchmark = load_benchmark(Path("eval/benchmarks/shop_test.toml"))
    assert pipeline.problems is not None
    with GradingPool(workers=1) as pool:
        for settings, count in ((pipeline.problems, 10), (benchmark.problems, 3)):
            manifest = run_problems(settings, tmp_path / str(count), pool=pool)
            assert manifest.counts["out"] == count and not manifest.dropped
