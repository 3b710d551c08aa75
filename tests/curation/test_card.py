"""The card of a data set: what teachers, files and authors are called stays text in it."""

from __future__ import annotations

from markdown_it import MarkdownIt

from reasondistill.curation.card import CardFacts, DatasetFile, FunnelRow, dataset_card

EVIL = 'a" |\n---\n<img src=x onerror=alert(1)> \x1b[2J \u202e [x](http://e.com) `c` # h'


def test_foreign_text_is_text_in_every_cell() -> None:
    facts = CardFacts(
        title="set",
        origins={"teacher": EVIL, EVIL: "x"},
        funnel=[FunnelRow(EVIL, 3, 1, {EVIL: 2})],
        figures={EVIL: EVIL},
        files=[DatasetFile("train", "train.parquet", 1, "ab12")],
        fingerprints={EVIL: "cd34"},
    )
    card = dataset_card(facts)
    assert "\x1b" not in card and "\u202e" not in card
    body = card.split("---\n", 2)[2]
    page = MarkdownIt("commonmark", {"html": True}).enable("table").render(body)
    assert "<img" not in page and "<a " not in page
    assert (
        "<code>ab12</code>" in page and "<code>cd34</code>" in page and "<code>c</code>" not in page
    )
    assert page.count("<h1>") == 1
