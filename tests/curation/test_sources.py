"""Several sources of problems: shares, order, ids, duplicates, counts, and what is refused."""

from __future__ import annotations

import json
import logging
import tempfile
import tomllib
from collections import Counter
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from draws import draws
from hypothesis import given, settings
from hypothesis import strategies as st
from test_problems import DigitPool, write_jsonl

from reasondistill.config import Benchmark, Pipeline, ProblemMixture, load_pipeline
from reasondistill.config.sources import ProblemSource
from reasondistill.curation.sources import SourceCounts, shares
from reasondistill.errors import ConfigError, DataError, DriftError
from reasondistill.grading import GradingPool
from reasondistill.records import Problem, SetAside
from reasondistill.runs import store
from reasondistill.runs.figures import ProblemsFigures, SourceFigures
from reasondistill.stages.problems import read_problems, run_problems

# ---- shares --------------------------------------------------------------------------------------


def by_hand(limit: int, weights: list[float], most: list[int | None]) -> list[int]:
    """The rows that count least, one by one."""
    taken = [0] * len(weights)
    for _ in range(limit):
        next_ones = [
            (Fraction(taken[i] + 1) / Fraction(weight), i)
            for i, weight in enumerate(weights)
            if weight > 0 and taken[i] != most[i]
        ]
        if not next_ones:
            break
        taken[min(next_ones)[1]] += 1
    return taken


@st.composite
def mixtures(draw: st.DrawFn) -> tuple[int, list[float], list[int | None]]:
    count = draw(st.integers(1, 6))
    weight = st.one_of(st.just(0.0), st.sampled_from([1.0, 0.1, 3.0, 1e-6, 1e6]), st.floats(0, 100))
    weights = draw(st.lists(weight, min_size=count, max_size=count))
    ends = st.one_of(st.none(), st.integers(0, 80))
    return draw(st.integers(0, 200)), weights, draw(st.lists(ends, min_size=count, max_size=count))


@given(mixtures())
def test_shares_are_those_of_rows_taken_one_by_one(
    mixture: tuple[int, list[float], list[int | None]],
) -> None:
    limit, weights, most = mixture
    counts = shares(limit, weights, most)
    assert counts == by_hand(limit, weights, most)
    larger = shares(limit + 7, weights, most)
    assert all(after >= before for before, after in zip(counts, larger, strict=True))


def test_shares_of_millions_are_exact_and_take_no_time() -> None:
    assert shares(10**12, [3, 1], [None, None]) == [750_000_000_000, 250_000_000_000]
    assert shares(10**9, [0.1, 0.2, 0.7], [None] * 3) == [10**8, 2 * 10**8, 7 * 10**8]
    assert shares(10, [1, 1, 1], [None, 2, None]) == [4, 2, 4]


# ---- reading -------------------------------------------------------------------------------------


def rows_of(name: str, count: int) -> list[dict[str, Any]]:
    return [{"question": f"{name}: what is {i} + 1?", "answer": str(i + 1)} for i in range(count)]


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name, count in (("a", 20), ("b", 12), ("c", 3)):
        write_jsonl(tmp_path / f"{name}.jsonl", rows_of(name, count))
    return tmp_path


def source(name: str, **keys: Any) -> dict[str, Any]:
    return {"name": name, "source": "file", "dataset": f"{name}.jsonl"} | keys


def mixture(*sources: dict[str, Any], **keys: Any) -> ProblemMixture:
    return ProblemMixture.model_validate({"sources": list(sources)} | keys)


def ids(settings: ProblemMixture | ProblemSource) -> list[str]:
    return [entry.id for entry in read_problems(settings) if isinstance(entry, Problem)]


def numbers(settings: ProblemMixture) -> dict[str, int]:
    return dict(Counter(name.partition("/")[0] for name in ids(settings)))


@pytest.mark.usefixtures("files")
def test_sources_stand_behind_each_other_and_each_names_its_problems() -> None:
    both = mixture(source("a", limit=3, tag="sums"), source("b", split="test", limit=2))
    assert ids(both) == ["a/train/0", "a/train/1", "a/train/2", "b/test/0", "b/test/1"]
    read = [entry.origin for entry in read_problems(both)]
    assert [(origin.source, origin.tag) for origin in read] == [("a", "sums")] * 3 + [
        ("b", None)
    ] * 2
    alone = [entry.origin for entry in read_problems(ProblemSource(**source("a")))]
    assert alone[0].source is None and '"source"' not in alone[0].to_json()


@pytest.mark.usefixtures("files")
def test_a_source_behind_the_others_changes_no_problem_of_theirs() -> None:
    before = list(read_problems(mixture(source("a", shuffle=True, seed=3), source("b"))))
    after = list(
        read_problems(mixture(source("a", shuffle=True, seed=3), source("b"), source("c")))
    )
    assert after[: len(before)] == before and len(after) == len(before) + 3


@pytest.mark.usefixtures("files")
@pytest.mark.parametrize("weights", [{}, {"weight": 2.5}])
def test_a_larger_limit_only_adds_problems(weights: dict[str, Any]) -> None:
    earlier: list[str] = []
    for limit in range(1, 36):
        now = ids(mixture(source("a", **weights), source("b"), source("c"), limit=limit))
        assert [name for name in now if name in set(earlier)] == earlier
        earlier = now


@pytest.mark.usefixtures("files")
@pytest.mark.parametrize(
    ("keys", "counts"),
    [
        ({"weights": [3, 1, 0], "limit": 8}, {"a": 6, "b": 2}),
        ({"weights": [1, 1, 1], "limit": 9}, {"a": 3, "b": 3, "c": 3}),
        ({"weights": [1, 1, 2], "limit": 12}, {"a": 3, "b": 3, "c": 3}),
        ({"limit": 9}, {"a": 3, "b": 3, "c": 3}),
        ({"limit": 30}, {"a": 10, "b": 10, "c": 3}),
        ({"limit": 99}, {"a": 20, "b": 12, "c": 3}),
        ({}, {"a": 20, "b": 12, "c": 3}),
        ({"limits": [2, None, 1]}, {"a": 2, "b": 12, "c": 1}),
        ({"limits": [2, None, 1], "limit": 10}, {"a": 2, "b": 7, "c": 1}),
        ({"limits": [2, None, None], "weights": [5, 1, 1], "limit": 8}, {"a": 2, "b": 3, "c": 3}),
    ],
)
def test_weights_and_limits_say_how_many(keys: dict[str, Any], counts: dict[str, int]) -> None:
    sources = [source(name) for name in "abc"]
    for key in ("weight", "limit"):
        for one, value in zip(sources, keys.get(f"{key}s", ()), strict=False):
            if value is not None:
                one[key] = value
    for shuffle in (False, True):
        both = mixture(*sources, shuffle=shuffle, limit=keys.get("limit"))
        assert numbers(both) == counts


@pytest.mark.usefixtures("files")
def test_shuffle_and_seed_go_for_sources_without_their_own() -> None:
    def first(**keys: Any) -> list[str]:
        return ids(mixture(source("a", **keys), source("b"), limit=8, shuffle=True, seed=1))

    assert first() == first() != ids(mixture(source("a"), source("b"), limit=8))
    of_seed_1, of_seed_2 = first(), first(seed=2)
    assert of_seed_1[:4] != of_seed_2[:4] and of_seed_1[4:] == of_seed_2[4:]
    assert first(shuffle=False)[:4] == [f"a/train/{i}" for i in range(4)]


@pytest.mark.usefixtures("files")
def test_the_same_file_twice_gives_no_id_twice(files: Path) -> None:
    low = source("low", dataset="a.jsonl", filter={"answer": {"max": 12}})
    high = source("high", dataset="a.jsonl", filter={"answer": {"min": 10}})
    entries = list(read_problems(mixture(low, high)))
    assert len({entry.id for entry in entries}) == len(entries) == 12 + 11
    aside = [entry for entry in entries if isinstance(entry, SetAside)]
    assert {entry.reason for entry in aside} == {"duplicate question, high repeats low"}
    assert [entry.detail for entry in aside] == [
        f"the same question as low/train/{i}" for i in (9, 10, 11)
    ]
    assert [entry.id for entry in aside] == [f"high/train/{i}" for i in (9, 10, 11)]


def test_a_fault_names_its_source(files: Path) -> None:
    with pytest.raises(ConfigError, match=r"source none: dataset = .*no such file"):
        list(read_problems(mixture(source("a"), source("none"))))
    with pytest.raises(ConfigError, match='source b: answer = "anwser": .*Did you mean answer'):
        list(read_problems(mixture(source("a"), source("b", answer="anwser"))))
    write_jsonl(files / "broken.jsonl", [*rows_of("x", 2), [1]])
    with pytest.raises(DataError, match=r"source broken: .*broken\.jsonl:3: expected"):
        list(read_problems(mixture(source("a"), source("broken"))))


@given(
    st.lists(st.lists(st.integers(0, 9), min_size=1, max_size=9), min_size=1, max_size=4),
    st.one_of(st.none(), st.integers(1, 25)),
)
@settings(max_examples=draws(40))
def test_of_any_mixture_every_row_is_counted_once(
    sources: list[list[int]], limit: int | None
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        parts: list[dict[str, Any]] = []
        for place, questions in enumerate(sources):
            name = f"s{place}"
            rows = [{"question": f"What is {n}?", "answer": str(n % 3)} for n in questions]
            write_jsonl(Path(folder) / f"{name}.jsonl", rows)
            parts.append(source(name, dataset=str(Path(folder) / f"{name}.jsonl")))
        entries = list(read_problems(mixture(*parts, limit=limit)))
    counts = SourceCounts()
    for entry in entries:
        counts.add(entry)
    assert len({entry.id for entry in entries}) == len(entries)
    kept = [entry for entry in entries if isinstance(entry, Problem)]
    assert len({problem.question for problem in kept}) == len(kept)
    asked = [len(questions) for questions in sources]
    if limit is not None:
        asked = shares(limit, [1.0] * len(sources), [None] * len(sources))
    for place, questions in enumerate(sources):
        figures = counts.figures(SourceFigures(name=f"s{place}"))
        assert figures.rows == min(asked[place], len(questions))
        assert figures.rows == figures.problems + sum(figures.dropped.values())
        for reason in figures.dropped:
            assert f"s{place} repeats s" in reason or "repeats" not in reason


# ---- the stage -----------------------------------------------------------------------------------


def test_counts_of_each_source_add_up_in_the_manifest(
    files: Path, caplog: pytest.LogCaptureFixture
) -> None:
    again = [*rows_of("a", 2), {"question": "a: what is 2 + 1?", "answer": "4"}]
    more = [{"question": "no number?", "answer": "none"}, {"question": "no answer?"}]
    write_jsonl(files / "d.jsonl", again + more + again[:1] + rows_of("d", 1))
    both = mixture(
        source("a", tag="sums", weight=1), source("d", weight=1), source("c", weight=1), limit=24
    )
    with caplog.at_level(logging.WARNING):
        manifest = run_problems(both, files / "out", pool=DigitPool())
    assert manifest.counts == {"in": 18, "out": 12}
    figures = ProblemsFigures.of(manifest)
    assert [(one.name, one.tag, one.dataset) for one in figures.sources] == [
        ("a", "sums", "a.jsonl"),
        ("d", "", "d.jsonl"),
        ("c", "", "c.jsonl"),
    ]
    a, d, c = figures.sources
    assert (a.rows, a.problems, a.dropped, a.asked) == (8, 8, {}, 8)
    assert (d.rows, d.problems, d.asked) == (7, 1, 8)
    assert d.dropped == {
        "duplicate question, d repeats a": 3,
        "duplicate question, unequal golds, d repeats a": 1,
        "gold does not grade itself": 1,
        "no answer": 1,
    }
    assert (c.rows, c.problems) == (3, 3)
    total = Counter[str]()
    for one in figures.sources:
        assert one.rows == one.problems + sum(one.dropped.values())
        total.update(one.dropped)
    assert total == manifest.dropped
    kept = list(store.read_records(files / "out" / "problems.jsonl", Problem))
    assert Counter(problem.origin.source for problem in kept) == {"a": 8, "d": 1, "c": 3}
    assert "source c: has 3 of the 8 rows that are its share" in caplog.text
    assert d.sentence == (
        "source d: 1 of 7 rows are problems (8 were asked for); 3 duplicate question, d repeats "
        "a, 1 duplicate question, unequal golds, d repeats a, 1 gold does not grade itself, "
        "1 no answer"
    )


def test_a_changed_source_is_named_and_an_unchanged_one_is_skipped(files: Path) -> None:
    both = mixture(source("a"), source("b"))
    first = run_problems(both, files / "out", pool=DigitPool())
    idle = DigitPool()
    assert run_problems(both, files / "out", pool=idle) == first and not idle.items
    tagged = mixture(source("a"), source("b", tag="x"))
    with pytest.raises(DriftError, match=r"sources\.b\.tag was absent, is"):
        run_problems(tagged, files / "out", pool=idle)
    write_jsonl(files / "b.jsonl", rows_of("b", 5))
    with pytest.raises(DriftError, match="b: content"):
        run_problems(both, files / "out", pool=idle)


@pytest.mark.parametrize(
    ("grown", "out"),
    [
        (mixture(source("b"), source("a")), 32),
        (mixture(source("a"), source("c"), source("b")), 35),
        (mixture(source("a"), source("b", limit=3)), 23),
        (mixture(source("a"), source("b"), limit=9), 9),
    ],
    ids=["order", "another source", "less of one", "less"],
)
def test_what_stands_of_other_sources_stays_as_it_was(
    files: Path, grown: ProblemMixture, out: int
) -> None:
    both = mixture(source("a"), source("b"))
    run_problems(both, files / "out", pool=DigitPool())
    stood = set((files / "out" / "problems.jsonl").read_bytes().splitlines())
    manifest = run_problems(grown, files / "out", pool=DigitPool())
    now = set((files / "out" / "problems.jsonl").read_bytes().splitlines())
    assert manifest.counts["out"] == out and (now <= stood or now >= stood)


def test_sources_of_all_kinds_are_read_and_graded_together(files: Path) -> None:
    pytest.importorskip("reasoning_gym")
    (files / "set").mkdir()
    write_jsonl(files / "set" / "train.jsonl", rows_of("set", 4))
    settings = mixture(
        {"name": "gym", "source": "procedural", "dataset": "gsm_symbolic", "limit": 3},
        {"name": "folder", "source": "hub", "dataset": "set", "split": "train[:2]"},
        source("a", limit=2),
    )
    with GradingPool(workers=1) as pool:
        manifest = run_problems(settings, files / "out", pool=pool)
    assert manifest.counts == {"in": 7, "out": 7}
    sources = ProblemsFigures.of(manifest).sources
    assert [one.problems for one in sources] == [3, 2, 2]
    assert sources[0].revision.startswith("reasoning-gym")


# ---- the section ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"sources": []}, "sources: none is listed"),
        ({"sources": [source("a"), source("a")]}, "two are called 'a'"),
        ({"sources": [source("a") | {"name": None}]}, "name: missing"),
        ({"sources": [source("a", weight=-1)]}, "greater than or equal to 0"),
        ({"sources": [source("a", weight=float("inf"))]}, "finite number"),
        ({"sources": [source("a", weight=0), source("b", weight=0)]}, "weights sum to 0"),
        ({"sources": [source("a", weight=1)], "limit": None}, "limit: missing; the weights"),
        ({"sources": [source("a", limit=0)]}, "greater than or equal to 1"),
        ({"question": "q"}, "question: is a key of one source"),
        (
            {"sources": [source("a", near_duplicates={})]},
            r"near_duplicates: compares .* all sources; the table is \[problems.near_duplicates\]",
        ),
        (
            {"sources": [source("a", decontaminate={"files": ["b.jsonl"]})]},
            r"decontaminate: compares .* all sources; the table is \[problems.decontaminate\]",
        ),
        ({"qestion": "q"}, "Extra inputs"),
    ],
)
def test_a_mixture_that_cannot_be_is_refused(changed: dict[str, Any], message: str) -> None:
    values = {"sources": [source("a")], "limit": 5} | changed
    with pytest.raises(ValueError, match=message):
        ProblemMixture.model_validate(values)


PIPELINE = """
name = "mixed"
[problems]
limit = 6
[[problems.sources]]
name = "a"
source = "file"
dataset = "a.jsonl"
weight = 2
[[problems.sources]]
name = "b"
tag = "hard"
source = "file"
dataset = "b.jsonl"
filter = { answer = { min = 3 } }
[traces]
prompt = "question"
[[traces.teachers]]
model = "x.jsonl"
sampler = "scripted"
"""


def load(folder: Path, *overrides: str, text: str = PIPELINE) -> Pipeline:
    (folder / "mixed.toml").write_text(text)
    return load_pipeline(folder / "mixed.toml", overrides)


def test_a_pipeline_file_names_sources_and_comes_back_as_it_was(files: Path) -> None:
    pipeline = load(files)
    assert isinstance(pipeline.problems, ProblemMixture)
    assert pipeline.problems.most_problems == 6 and pipeline.problems.has_answers
    assert numbers(pipeline.problems) == {"a": 4, "b": 2}
    stored = json.loads(json.dumps(pipeline.model_dump(mode="json")))
    assert Pipeline.model_validate(stored) == pipeline
    assert not {"near_duplicates", "decontaminate"} & set(stored["problems"])
    compared = load(
        files, "problems.near_duplicates.words=5", 'problems.decontaminate.files=["c.jsonl"]'
    )
    stored = json.loads(json.dumps(compared.model_dump(mode="json")))
    assert Pipeline.model_validate(stored) == compared != pipeline


def test_a_file_of_one_source_is_read_and_stored_as_before(files: Path) -> None:
    text = PIPELINE[: PIPELINE.index("limit = 6")] + PIPELINE[PIPELINE.index("[traces]") :]
    text = text.replace("[traces]", 'source = "file"\ndataset = "a.jsonl"\n[traces]')
    one = load(files, text=text)
    assert isinstance(one.problems, ProblemSource)
    assert set(one.model_dump(mode="json")["problems"]) == {
        *("source", "dataset", "name", "config", "split", "revision", "question", "answer"),
        *("solution", "id", "subject", "level", "answer_after", "choices", "filter", "shuffle"),
        *("seed", "limit", "options", "trust_remote_code"),
    }


def test_overrides_reach_into_a_source(files: Path) -> None:
    def problems_of(*overrides: str) -> ProblemMixture:
        settings = load(files, *overrides).problems
        assert isinstance(settings, ProblemMixture)
        return settings

    assert problems_of("problems.sources.0.limit=3").sources[0].limit == 3
    assert problems_of("problems.sources.1.limit=none").sources[1].limit is None
    assert problems_of("problems.sources.0.weight=none").is_weighted is False
    assert problems_of("problems.seed=7").sources[1].seed == 7
    assert numbers(problems_of("problems.limit=3")) == {"a": 2, "b": 1}


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("problems.sources.1.lmit=3", r"--set problems.sources.1.lmit: unknown key. .*limit"),
        ("problems.sources.0.weight=-1", r"--set problems.sources.0.weight: .*\(found -1\)"),
        ("problems.limit=none", r"\[problems\] limit: missing; the weights of sources"),
        ("problems.lmit=3", r"--set problems.lmit: unknown key. Did you mean limit"),
        (
            "problems.sources.1.near_duplicates.words=3",
            r"\[problems.sources.1\] near_duplicates: compares the problems of all sources",
        ),
        (
            "problems.decontaminate.numbers=words",
            r"problems.decontaminate: nothing to compare with; name evals.benchmarks",
        ),
        ("problems.sources.2.limit=3", "2 is no place in a list of 2"),
        (
            "problems.sources.1.filter.answer.mni=1",
            r"--set problems.sources.1.filter.answer.mni: unknown key. .*m[ai][nx]",
        ),
        ("problems.sources.1.filter.answer.max=1", "min: 3 is above max = 1"),
        ("problems.sources.1.source=sql", r"--set problems.sources.1.source: .*'procedural'"),
        ("problems=5", r"problems"),
    ],
)
def test_a_fault_in_a_source_is_named_with_its_place(
    files: Path, override: str, message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        load(files, override)


def test_problems_without_answers_need_votes_in_a_mixture_too(files: Path) -> None:
    with pytest.raises(ConfigError, match="the problems have no answers"):
        load(files, 'problems.sources.1.answer=""')
    voted = load(files, 'problems.sources.1.answer=""', "verdicts.majority=0.5", "traces.n=4")
    assert voted.problems is not None and not voted.problems.has_answers


def test_a_benchmark_has_one_source() -> None:
    values = {"name": "x", "problems": {"sources": [source("a")]}}
    with pytest.raises(ValueError, match="sources"):
        Benchmark.model_validate(values)


def test_the_mixture_of_the_documents_is_one() -> None:
    page = Path(__file__).parents[2] / "docs" / "howto" / "own_data.md"
    text = page.read_text(encoding="utf-8")
    block = next(part for part in text.split("```toml")[1:] if "[[problems.sources]]" in part)
    table = tomllib.loads(block.partition("```")[0])["problems"]
    settings = ProblemMixture.model_validate(table)
    assert [source.name for source in settings.sources] == ["gsm8k", "mine"]
