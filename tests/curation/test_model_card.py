"""The card of a student: read by the hub's library, complete, and foreign text stays text in it."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest
from huggingface_hub import ModelCard
from markdown_it import MarkdownIt
from published_run import BASE, COMMIT, published_run

from reasondistill.curation.card import FunnelRow
from reasondistill.curation.model_card import (
    Asked,
    Benchmarked,
    ModelCardFacts,
    ModelFile,
    Results,
    model_card,
)
from reasondistill.curation.provenance import (
    MadeStudent,
    card_facts,
    hub_id,
    read_asked,
    read_results,
    stages_of,
    weights_in,
)
from reasondistill.records import Message, Score
from reasondistill.runs.layout import RunFolder
from reasondistill.runs.scores import read_scores

EVIL = 'a" |\n---\n<img src=x onerror=alert(1)> \x1b[2J \u202e [x](http://e.com) `c` # h'


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    return RunFolder(published_run(tmp_path_factory.mktemp("runs") / "made"))


def facts_of(run: RunFolder, name: str = "sft") -> ModelCardFacts:
    student = run.student(name)
    made = MadeStudent.of(student)
    return card_facts(
        made,
        stages_of(run),
        asked=read_asked(run, student, made),
        results=read_results(run, name),
        files=weights_in(student.model),
    )


def score(benchmark: str = "b", model: str = "m") -> Score:
    return Score(
        model=model,
        benchmark=benchmark,
        metric="pass@1",
        mean=0.5,
        low=0.4,
        high=0.6,
        n=10,
        k=1,
        method="wilson",
    )


def test_foreign_text_is_text_everywhere() -> None:
    results = Results(
        EVIL,
        [score(EVIL, EVIL)],
        benchmarks={EVIL: Benchmarked(EVIL, EVIL, EVIL, EVIL, EVIL, EVIL)},
    )
    evil = {EVIL: EVIL}
    facts = ModelCardFacts(
        title=EVIL,
        summary=EVIL,
        where=EVIL,
        base_model=EVIL,
        datasets=[EVIL],
        licence=EVIL,
        tags=[EVIL],
        origins=evil,
        settings=evil,
        funnel=[FunnelRow(EVIL, 3, 1, {EVIL: 2})],
        data=evil,
        training=evil,
        results=results,
        asked=Asked((Message(role="user", content=f"{EVIL} ```` {{question}}"),)),
        files=[ModelFile(EVIL, 1, "ab12")],
        fingerprints={EVIL: "cd34"},
    )
    text = model_card(facts)
    assert "\x1b" not in text and "\u202e" not in text
    card = ModelCard(text)
    assert card.data.base_model == card.data.datasets[0] and "onerror" in card.data.base_model
    page = MarkdownIt("commonmark", {"html": True}).enable("table").render(card.text)
    inert = re.sub(r"<pre>.*?</pre>", "", page, flags=re.DOTALL)
    assert "<img" not in page and "<a " not in inert
    assert inert.count("<h1>") == 1 and page.count("<pre>") == 1


def test_the_hubs_library_reads_base_data_and_scores(run: RunFolder) -> None:
    facts = facts_of(run)
    text = model_card(facts)
    data = ModelCard(text).data
    assert data.base_model == "Qwen/Qwen2.5-0.5B" and data.datasets == ["openai/gsm8k"]
    assert data.library_name == "transformers" and data.pipeline_tag == "text-generation"
    assert {"reasondistill", "sft"} <= set(data.tags) and data.license is None
    stored = next(one for one in read_scores(run.evals.scores).scores if one.model == "sft")
    result = data.eval_results[0]
    assert result.dataset_name == "gsm_symbolic" and result.metric_type == "pass@1"
    assert result.metric_value == pytest.approx(100 * stored.mean, abs=0.01)
    assert "12 × 1, 95 % interval [" in result.metric_name
    assert model_card(facts) == text


def test_the_card_names_each_of_several_sources(run: RunFolder) -> None:
    stages = dict(stages_of(run))
    problems = stages["problems"]
    hub = {"source": "hub", "dataset": "o/sums"}
    sources = {"sums": hub, "again": hub, "here": hub | {"dataset": "o/here"}}
    sources["mine"] = {"source": "file", "dataset": "mine.jsonl"}
    section = {"sources": sources, "order": list(sources), "limit": None}
    inputs = {"here: content": "0123", "mine: content": "4567"}
    identity = {**problems.identity, "section": section, "inputs": inputs}
    read = [
        {"name": "sums", "dataset": "o/sums", "revision": COMMIT, "split": "train"},
        {"name": "mine", "dataset": "mine.jsonl", "revision": "4567", "split": "train"},
    ]
    stages["problems"] = replace(problems, identity=identity, figures={"sources": read})
    facts = card_facts(MadeStudent.of(run.student("sft")), stages)
    assert facts.datasets == ["o/sums"]
    assert facts.origins["problems"] == (
        f"o/sums, revision {COMMIT}, split train; mine.jsonl, revision 4567, split train"
    )


def test_the_card_does_not_say_how_published_traces_were_drawn(run: RunFolder) -> None:
    stages = dict(stages_of(run))
    traces = stages["traces"]
    teachers = {"1": {"model": "set@0123456789ab", "sampler": "stored", "share": 1.0}}
    identity = {**traces.identity, "section": {**traces.section, "teachers": teachers}}
    stages["traces"] = replace(traces, identity=identity)
    origins = card_facts(MadeStudent.of(run.student("sft")), stages).origins
    assert origins["teacher"] == "unknown, published in set@0123456789ab"
    assert "teacher's prompt" not in origins
    assert origins["teacher's samples"] == "published, at most 2 each"


def test_the_card_says_where_the_student_comes_from_and_what_it_scores(run: RunFolder) -> None:
    text = model_card(facts_of(run))
    for part in (
        f"Qwen/Qwen2.5-0.5B@{COMMIT}",
        "demo-teacher@a1b2c3d4",
        "trained on 1,800 verified solutions",
        "| problems | 15 | 12 | ",
        "duplicate question: 1",
        "| graded by | reasondistill-grader@1, policy default |",
        "| steps | 60 |",
        "| training loss | 0.31 |",
        "| validation loss | 0.42 |",
        "| most memory | 1.30 GiB |",
        "| tokens | 240,000 |",
        "sha256",
        "prompt think@0a1b2c3d",
    ):
        assert part in text, part
    for model in ("sft", "teacher", "base", "answer-only"):
        assert re.search(rf"^\| {model} \| gsm_symbolic \| [\d.]+ \|", text, re.M), model
    gaps = re.findall(r"^\| sft \| ([\w-]+) \| gsm_symbolic \| (?:better|worse|tied) ", text, re.M)
    assert sorted(gaps) == ["answer-only", "base", "teacher"]
    counts = re.findall(r"^\| (?:traces|verdicts|examples) \| ([\d,]+) \| ([\d,]+) \|", text, re.M)
    assert counts[1][0] == counts[0][1] and counts[2][0] == counts[1][1]


def test_without_scores_there_is_no_table_and_no_index(tmp_path: Path) -> None:
    run = RunFolder(published_run(tmp_path / "made", has_scores=False))
    text = model_card(facts_of(run))
    assert "## Scores" not in text and "model-index" not in text
    assert ModelCard(text).data.eval_results is None


@pytest.mark.parametrize(
    ("identity", "name"),
    [
        (BASE, "Qwen/Qwen2.5-0.5B"),
        ("Qwen/Qwen2.5-0.5B@main", "Qwen/Qwen2.5-0.5B"),
        (f"gpt2@{COMMIT}", "gpt2"),
        ("demo-teacher@0123456789ab", None),
        ("model@0123456789ab", None),
        ("scratch@0123456789abcdef", None),
        ("scratch llama 2.1M", None),
    ],
)
def test_only_what_the_hub_has_is_named_as_its_base(identity: str, name: str | None) -> None:
    assert hub_id(identity) == name


def test_a_student_of_a_student_names_the_first_base(run: RunFolder) -> None:
    made = MadeStudent.of(run.student("sft"))
    later = replace(
        made, record=made.record.model_copy(update={"name": "next", "base": "model@0123456789ab"})
    )
    facts = card_facts(later, stages_of(run), parents={"model@0123456789ab": made.record})
    assert facts.base_model == "Qwen/Qwen2.5-0.5B" and "by way of sft" in facts.origins["base"]


def test_an_earlier_versions_student_is_asked_as_its_first_example_was(run: RunFolder) -> None:
    student = run.student("answer-only")
    asked = read_asked(run, student, MadeStudent.of(student))
    assert asked is not None
    assert [turn.content for turn in asked.turns] == ["{question}"]


@pytest.mark.parametrize(
    ("environment", "hardware"),
    [
        ({"gpus": ["H100", "H100"], "processor": "Xeon", "cores": 8}, "H100; H100"),
        ({"gpus": [], "processor": "Xeon", "cores": 8}, "Xeon, 8 cores"),
        ({}, None),
    ],
)
def test_the_card_says_on_what_it_was_trained(
    run: RunFolder, environment: dict[str, object], hardware: str | None
) -> None:
    made = replace(MadeStudent.of(run.student("sft")), environment=environment)
    assert card_facts(made, stages_of(run)).training.get("hardware") == hardware


def test_an_adapter_is_loaded_by_peft() -> None:
    turns = (Message(role="user", content="{question}"),)
    facts = ModelCardFacts(title="a", summary="b", is_adapter=True, base_model="x/y")
    text = model_card(replace(facts, asked=Asked(turns)))
    assert "library_name: peft" in text and "base_model_relation: adapter" in text
    assert "AutoPeftModelForCausalLM" in text
