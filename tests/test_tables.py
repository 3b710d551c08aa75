"""What scores and differences look like as text, wherever they are shown."""

from __future__ import annotations

import re

import pytest
from markupsafe import Markup
from rich.console import Console

from reasondistill.cli.console import coloured
from reasondistill.records import Difference, Score
from reasondistill.stages.report import html, markdown
from reasondistill.tables import (
    ScoreRow,
    Table,
    difference_table,
    gap_text,
    half_text,
    p_value,
    points,
    score_grid,
    score_table,
    size_text,
)

SCORE = Score(
    model="a", benchmark="b", metric="pass@1", mean=0.395, low=0.341, high=0.451,
    n=1319, k=4, method="wilson",
)  # fmt: skip
DIFFERENCE = Difference(
    model="a", baseline="z", benchmark="b", metric="pass@1", mean=-0.031, low=-0.059, high=0.004,
    n=1319, k=1, p_value=0.00001, p_adjusted=0.25, word="tied", gained=4, lost=1200,
)  # fmt: skip


def test_numbers_have_one_decimal_and_less_than_nothing_a_minus_sign() -> None:
    assert points(0.0312) == "+3.1" and points(-0.0312) == "−3.1"
    assert gap_text(DIFFERENCE) == "−3.1 points [−5.9, 0.4]"
    assert half_text(SCORE) == "39.5±5.5"
    assert size_text(SCORE) == "1,319 × 4"


@pytest.mark.parametrize(("p", "text"), [(0.00009, "< 0.0001"), (0.0123, "0.0123"), (0.25, "0.25")])
def test_a_p_value_has_decimals_where_they_matter(p: float, text: str) -> None:
    assert p_value(p) == text


def test_a_score_has_its_interval_its_size_and_the_shares_of_its_outcomes_beside_it() -> None:
    row = ScoreRow("a", "b", SCORE, {"maj@4": "41.0"}, {"truncated": 0.12}, tokens=1234.4)
    table = score_table([row], ["maj@4", "pass@4"], ["truncated", "no_answer"])
    assert dict(zip(table.headers, table.rows[0], strict=True)) == {
        "model": "a", "benchmark": "b", "pass@1 %": "39.5", "95 % interval": "[34.1, 45.1]",
        "maj@4 %": "41.0", "pass@4 %": "", "n × k": "1,319 × 4",
        "truncated %": "12.0", "no answer %": "0.0", "tokens": "1,234",
    }  # fmt: skip
    assert "pass@4 %" not in table.without_blanks().headers
    narrow = table.without(["tokens"]).joined("truncated %", "cut·none %")
    assert narrow.column("cut·none %") == ["12.0·0.0"]


def test_columns_of_numbers_stay_so_when_a_column_of_text_goes() -> None:
    table = Table(("a", "b", "1"), (("x", "y", "2"),), numbers=2)
    assert table.without(["b"]).numbers == 1 and table.without(["1"]).numbers == 2


def test_a_grid_has_a_blank_where_a_model_was_not_measured() -> None:
    other = SCORE.model_copy(update={"model": "c", "benchmark": "d"})
    assert score_grid([SCORE, other], half_text).rows == (
        ("a", "39.5±5.5", ""),
        ("c", "", "39.5±5.5"),
    )


def test_terminal_markdown_and_page_show_the_same_cells() -> None:
    table = difference_table([DIFFERENCE])
    console = Console(width=200)
    with console.capture() as printed:
        console.print(coloured(table))
    page = re.sub(r"<[^>]+>", " ", html.plain(table))
    for cell in (*table.headers, *table.rows[0]):
        assert cell in printed.get()
        assert html.text(cell) in page
        assert markdown.inline(cell) in markdown.table(table)


def test_pictures_stand_behind_the_column_that_they_picture() -> None:
    table = difference_table([DIFFERENCE])
    page = html.plain(table, html.Pictures("points", "scale", [Markup("<svg></svg>")]))
    heads = re.findall(r"<th scope=\"col\"[^>]*>([^<]*)</th>", page)
    assert heads[heads.index("points") + 1] == "scale" and "<td><svg></svg></td>" in page
    assert '<td class="number">−3.1</td>' in page and '<span class="tied">tied</span>' in page
