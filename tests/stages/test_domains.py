"""Teachers that are dealt the problems of their domain."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from pydantic import ValidationError
from test_examples import problem

from reasondistill.config import Pipeline, SampledModel
from reasondistill.errors import StageError
from reasondistill.records import Problem
from reasondistill.stages.traces.teachers import deal, deal_by_domain
from reasondistill.stages.traces.work import model_section


def tagged(number: int, tag: str | None) -> Problem:
    plain = problem(number)
    return plain.model_copy(update={"origin": plain.origin.model_copy(update={"tag": tag})})


def teacher(*tags: str, share: float = 1.0) -> SampledModel:
    return SampledModel(model="m", tags=tags, share=share)


def dealt(tag: str | None, teachers: list[SampledModel]) -> dict[int, int]:
    return dict(Counter(deal_by_domain(tagged(n, tag), teachers) for n in range(400)))


def test_problems_of_a_domain_go_to_those_who_name_it_and_all_others_to_those_who_name_none() -> (
    None
):
    teachers = [teacher("geometry", share=3), teacher(), teacher("geometry", "number"), teacher()]
    geometry = dealt("geometry", teachers)
    assert set(geometry) == {0, 2} and 240 < geometry[0] < 360  # three quarters of 400
    assert dealt("number", teachers) == {2: 400}
    others = dealt("algebra", teachers)
    assert set(others) == {1, 3} and 140 < others[1] < 260
    assert set(dealt(None, teachers)) == {1, 3}


def test_without_tags_problems_are_dealt_as_ever() -> None:
    teachers = [teacher(share=1), teacher(share=2)]
    for number in range(50):
        one = tagged(number, "geometry")
        assert deal_by_domain(one, teachers) == deal(one.id, [1, 2])
    section = model_section(SampledModel(model="gone", sampler="reference"))
    assert "tags" not in section
    named = SampledModel(model="gone", sampler="reference", tags=("a",))
    assert model_section(named)["tags"] == ["a"]


def test_a_problem_that_is_nobodys_is_refused() -> None:
    with pytest.raises(StageError, match="d/train/1 is tagged 'algebra', which no teacher names"):
        deal_by_domain(tagged(1, "algebra"), [teacher("geometry")])


def pipeline(*teachers: list[str]) -> Pipeline:
    sources: list[dict[str, Any]] = [
        {"name": "a", "tag": "geometry", "dataset": "a.jsonl", "source": "file"},
        {"name": "b", "dataset": "b.jsonl", "source": "file"},
    ]
    models = [{"model": f"m{n}", "tags": tags} for n, tags in enumerate(teachers)]
    return Pipeline.model_validate(
        {"name": "p", "problems": {"sources": sources}, "traces": {"teachers": models}}
    )


def test_tags_that_no_source_has_and_sources_without_a_teacher_are_refused() -> None:
    assert len(pipeline(["geometry"], []).teachers) == 2
    with pytest.raises(ValidationError, match="no source .* tagged 'geometri'; tags: geometry"):
        pipeline(["geometri"], [])
    with pytest.raises(ValidationError, match=r"dealt the problems tagged \(no tag\)"):
        pipeline(["geometry"])
