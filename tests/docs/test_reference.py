"""The pages that are made from the code have all of it: each key, command and part, with what
`explain`, `--help` and `list` say.
"""

from __future__ import annotations

import html
import json
import re
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from typer.main import get_command

from reasondistill.cli.entry import app
from reasondistill.cli.explaining import all_keys, default_text
from reasondistill.cli.files import kinds_with_words, parts_of
from reasondistill.cli.reference import reference_pages
from reasondistill.cli.schema import Subject


@pytest.fixture(scope="module")
def pages() -> dict[str, str]:
    return reference_pages()


def page_of(file: str, place: str) -> str:
    """Where a key stands."""
    top = place.partition(".")[0]
    if file != "pipeline":
        return f"reference/keys/{file}.md"
    if top in ("name", "about"):
        return "reference/keys/pipeline.md"
    return f"reference/keys/{top}.md"


def test_every_key_has_its_place_with_type_default_and_an_example(pages: dict[str, str]) -> None:
    for key in all_keys():
        text = pages[page_of(key.file, key.place)]
        if key.sections:
            assert f"{{ #{key.place} }}" in text, key.place
            continue
        rows = text.split(f'<code id="{key.place}">')[1:]
        assert rows, f"{key.file}: {key.place}"
        cells = [row.split("</tr>")[0] for row in rows]
        about = html.escape(key.about).replace("`", "")
        wanted = (about, html.escape(default_text(key)), html.escape(f"{key.name} = "))
        # Two sections may have a key at the same place.
        assert any(
            all(word in cell.replace("<code>", "").replace("</code>", "") for word in wanted)
            for cell in cells
        ), (key.place, wanted)


def test_no_section_says_its_first_words_twice(pages: dict[str, str]) -> None:
    for name, text in pages.items():
        for section in re.split(r"\n(?=## )", text):
            said = re.findall(r"^<p>(.*)</p>$", section, re.M)
            begins = [" ".join(re.split(r"[.;:]", one)[0].split()[:6]) for one in said]
            assert len(set(begins)) == len(begins), (name, section.splitlines()[0], begins)


def test_every_section_names_its_source(pages: dict[str, str]) -> None:
    for key in all_keys():
        for section in key.sections:
            module = section.__module__.replace(".", "/")
            source = f"Source: `{module}.py`, `{section.__name__}`."
            assert source in pages[page_of(key.file, key.place)]


def test_every_command_has_its_place_with_all_its_options(pages: dict[str, str]) -> None:
    text = pages["reference/commands.md"]
    commands: dict[str, Any] = get_command(app).commands  # type: ignore[attr-defined]
    assert len(commands) > 20
    for name, command in commands.items():
        assert command.hidden != (f"\n## {name}\n" in text), name
        if command.hidden:
            continue
        section = text.split(f"\n## {name}\n")[1].split("\n## ")[0]
        for parameter in command.params:
            for option in parameter.opts:
                if parameter.param_type_name == "argument":
                    assert option in section or str(parameter.metavar) in section, (name, option)
                    continue
                assert f"<code>{option}" in section or f", {option}" in section, (name, option)
    assert "130 after Ctrl-C" in text and "[bold]" not in text


def test_every_part_has_its_place(pages: dict[str, str]) -> None:
    text = pages["reference/parts.md"]
    for kind in kinds_with_words():
        for name, _, _ in parts_of(kind):
            assert f"<td><code>{html.escape(name)}</code></td>" in text, (kind, name)
    assert str(__file__).partition("/tests/")[0] not in text, "a path of this machine"


@pytest.mark.parametrize("subject", list(Subject))
def test_every_schema_is_one_and_lies_beside_the_pages(
    subject: Subject, pages: dict[str, str]
) -> None:
    schema = json.loads(pages[f"reference/schemas/{subject.value}.schema.json"])
    Draft202012Validator.check_schema(schema)
    assert schema["title"]
