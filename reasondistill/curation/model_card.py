"""The card of a student: what it was made from and how, what it scores and against whom, how to ask
it, and by which hashes it is known.

    text = model_card(facts)        # README.md, with the YAML head that the hub reads

The same facts give the same text. What others have named stays text in it; a head names only what
the hub can link: a base and data sets of the hub.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from reasondistill.curation.card import NO_LICENCE, FunnelRow, funnel_cells, pairs, section
from reasondistill.foreign_text import shown_json, shown_line
from reasondistill.markdown import code_block, inline
from reasondistill.records import Difference, Message, Score
from reasondistill.tables import (
    UNANSWERED,
    ScoreRow,
    Table,
    difference_table,
    interval,
    percent,
    score_table,
    score_text,
    size_text,
)

PASS_1 = "pass@1"
# What stands in a prompt where the question goes.
QUESTION = "{question}"
# The tokens of an answer where nobody has said how many.
_MOST_TOKENS = 2048
# A prompt with worked examples may be longer than what anybody reads in a card.
_LONGEST_PROMPT = 12_000


@dataclass(frozen=True)
class ModelFile:
    """One file of weights."""

    name: str
    size: int
    sha256: str


@dataclass(frozen=True)
class Asked:
    """How a student is asked: the turns of its prompt with `{question}` in the last one, `plain`
    without a chat template, and the sampling it was measured with.
    """

    turns: tuple[Message, ...]
    plain: bool = False
    sampling: Mapping[str, float] = field(default_factory=dict[str, float])
    needs_code: bool = False


@dataclass(frozen=True)
class Benchmarked:
    """A benchmark as the hub wants to know it, and how it was asked there, in words."""

    name: str
    dataset: str
    split: str
    revision: str
    asked: str = ""
    suspect: str = ""


@dataclass(frozen=True)
class Results:
    """Scores of a student (of the name `model`) and of whom it is compared with."""

    model: str
    scores: Sequence[Score] = ()
    differences: Sequence[Difference] = ()
    outcomes: Mapping[str, Mapping[str, Mapping[str, float]]] = field(
        default_factory=dict[str, "Mapping[str, Mapping[str, float]]"]
    )
    tokens: Mapping[str, Mapping[str, float | None]] = field(
        default_factory=dict[str, "Mapping[str, float | None]"]
    )
    benchmarks: Mapping[str, Benchmarked] = field(default_factory=dict[str, Benchmarked])


@dataclass(frozen=True)
class ModelCardFacts:
    """The content of a card. `base_model` and `datasets` are ids of the hub, `where` is what a
    library loads the student by, `origins`, `settings`, `data`, `training` and `fingerprints` are
    shown as tables of name and value.
    """

    title: str
    summary: str
    where: str = "."
    is_adapter: bool = False
    is_trained: bool = True
    base_model: str | None = None
    datasets: Sequence[str] = ()
    licence: str | None = None
    tags: Sequence[str] = ()
    origins: Mapping[str, str] = field(default_factory=dict[str, str])
    settings: Mapping[str, str] = field(default_factory=dict[str, str])
    funnel: Sequence[FunnelRow] = ()
    data: Mapping[str, str] = field(default_factory=dict[str, str])
    training: Mapping[str, str] = field(default_factory=dict[str, str])
    results: Results = Results("")
    asked: Asked | None = None
    files: Sequence[ModelFile] = ()
    fingerprints: Mapping[str, str] = field(default_factory=dict[str, str])


def model_card(facts: ModelCardFacts) -> str:
    """README.md of a student's folder."""
    body = [
        f"# {inline(facts.title)}",
        "",
        inline(facts.summary),
        "",
        *score_lines(facts.results),
        *asking_lines(facts),
        *section("How it was made", ("", ""), pairs(facts.origins)),
        *section(
            "From problems to examples",
            ("stage", "in", "out", "dropped"),
            [funnel_cells(row) for row in facts.funnel],
        ),
        *section("Data", ("", ""), pairs(facts.data)),
        *section("Settings", ("", ""), pairs(facts.settings)),
        *section("Training", ("", ""), pairs(facts.training)),
        *section(
            "Weights", ("file", "bytes", "sha256"), [weight_cells(file) for file in facts.files]
        ),
        *section(
            "Fingerprints",
            ("", ""),
            [
                [inline(name), f"`{shown_line(value)}`"]
                for name, value in facts.fingerprints.items()
            ],
        ),
        "Not covered: the licences of the base, of the problems and of the teacher's output, which "
        "may restrict this model; what it does outside of such problems.",
        "",
    ]
    return "\n".join([*head_of(facts), *body])


# ---- the head ------------------------------------------------------------------------------------


def head_of(facts: ModelCardFacts) -> list[str]:
    """The YAML head. Every text in it is quoted as JSON, which is YAML too."""
    lines = ["---"]
    if facts.base_model is not None:
        relation = "finetune"
        if facts.is_adapter:
            relation = "adapter"
        lines.append(f"base_model: {_quoted(facts.base_model)}")
        if facts.is_trained:
            lines.append(f"base_model_relation: {relation}")
    library = "transformers"
    if facts.is_adapter:
        library = "peft"
    lines += [f"library_name: {library}", "pipeline_tag: text-generation"]
    licence = NO_LICENCE
    if facts.licence is not None:
        licence = f"license: {_quoted(facts.licence)}"
    lines.append(licence)
    if facts.datasets:
        lines += ["datasets:", *(f"- {_quoted(name)}" for name in facts.datasets)]
    lines += ["tags:", *(f"- {_quoted(tag)}" for tag in facts.tags)]
    lines += model_index(facts)
    return [*lines, "---", ""]


def model_index(facts: ModelCardFacts) -> list[str]:
    """The student's own scores as the hub reads them: a result for each benchmark."""
    own: dict[str, list[Score]] = {}
    for score in facts.results.scores:
        is_known = score.benchmark in facts.results.benchmarks and math.isfinite(score.mean)
        if score.model == facts.results.model and is_known:
            own.setdefault(score.benchmark, []).append(score)
    if not own:
        return []
    lines = ["model-index:", f"- name: {_quoted(facts.title)}", "  results:"]
    for name, scores in own.items():
        about = facts.results.benchmarks[name]
        lines += [
            "  - task:",
            "      type: text-generation",
            "    dataset:",
            f"      name: {_quoted(about.name)}",
            f"      type: {_quoted(about.dataset)}",
        ]
        if about.split:
            lines.append(f"      split: {_quoted(about.split)}")
        if about.revision:
            lines.append(f"      revision: {_quoted(about.revision)}")
        lines.append("    metrics:")
        for score in scores:
            sized = f"{score.metric}, {size_text(score)}, 95 % interval {interval(score)}"
            lines += [
                f"    - type: {_quoted(score.metric)}",
                f"      value: {100 * score.mean:.2f}",
                f"      name: {_quoted(sized)}",
            ]
    return lines


def _quoted(text: str) -> str:
    return json.dumps(shown_line(text), ensure_ascii=False)


# ---- scores --------------------------------------------------------------------------------------


def score_lines(results: Results) -> list[str]:
    """Scores and differences as the report has them, and how they were measured."""
    main = [score for score in results.scores if score.metric == PASS_1]
    if not main:
        return []
    others: dict[tuple[str, str], dict[str, str]] = {}
    for score in results.scores:
        if score.metric != PASS_1:
            cells = others.setdefault((score.model, score.benchmark), {})
            cells[score.metric] = score_text(score)
    metrics = sorted({score.metric for score in results.scores} - {PASS_1})
    rows: list[ScoreRow] = []
    for score in main:
        place = (score.model, score.benchmark)
        outcomes = results.outcomes.get(score.benchmark, {}).get(score.model, {})
        tokens = results.tokens.get(score.benchmark, {}).get(score.model)
        rows.append(ScoreRow(*place, score, others.get(place, {}), outcomes, tokens))
    table = score_table(rows, metrics, UNANSWERED).without_blanks()
    lines = [*_table("Scores", table)]
    differences = difference_table(results.differences).without_blanks()
    if differences.rows:
        lines += [*_table("Against others", differences, level=3)]
    lines += [
        "Means in percent over all samples, with 95 % intervals; n × k are problems and samples of "
        "each. Differences are paired, over the same problems; samples whose tokens ran out, that "
        "gave no answer or could not be decided count as not correct.",
        "",
    ]
    for about in results.benchmarks.values():
        said = [about.asked, about.suspect]
        lines += [f"* {inline(about.name)}: {inline('; '.join(filter(None, said)))}"]
    if results.benchmarks:
        lines.append("")
    return lines


def _table(title: str, table: Table, level: int = 2) -> list[str]:
    rows = [list(map(inline, row)) for row in table.rows]
    lines = section(title, [inline(header) for header in table.headers], rows)
    lines[0] = f"{'#' * level} {title}"
    return lines


def weight_cells(file: ModelFile) -> list[str]:
    """A file of weights as the row of a table."""
    return [inline(file.name), f"{file.size:,}", f"`{file.sha256}`"]


# ---- how to ask ----------------------------------------------------------------------------------


def asking_lines(facts: ModelCardFacts) -> list[str]:
    """The lines of Python by which a student is loaded and asked as it was in training."""
    if facts.asked is None:
        return []
    turns = [turn.as_turn() for turn in facts.asked.turns]
    written = shown_json(json.dumps(turns, ensure_ascii=False, indent=4))
    if len(written) > _LONGEST_PROMPT:
        return [
            "## How to ask it",
            "",
            "With the prompt that it was trained with, which has worked examples and is too long "
            "for this page: `messages` in reasondistill.json.",
            "",
        ]
    code = "\n".join(code_lines(facts, facts.asked, written))
    way = "By its chat template, with the turns that it was trained with:"
    if facts.asked.plain:
        way = "As plain text, without a chat template, with the words that it was trained with:"
    return ["## How to ask it", "", way, "", code_block(code, "python"), ""]


def code_lines(facts: ModelCardFacts, asked: Asked, turns: str) -> Iterator[str]:
    trust = ""
    if asked.needs_code:
        trust = ", trust_remote_code=True"
    where = json.dumps(shown_line(facts.where), ensure_ascii=False)
    if facts.is_adapter:
        yield "from peft import AutoPeftModelForCausalLM as Model"
        yield "from transformers import AutoTokenizer"
    else:
        yield "from transformers import AutoModelForCausalLM as Model, AutoTokenizer"
    yield ""
    yield f"tokenizer = AutoTokenizer.from_pretrained({where}{trust})"
    yield f"model = Model.from_pretrained({where}{trust})"
    yield 'question = "What is 3 + 4?"'
    yield f"messages = {turns}"
    yield "for message in messages:"
    yield f'    message["content"] = message["content"].replace("{QUESTION}", question)'
    if asked.plain:
        yield 'text = "\\n\\n".join(message["content"] for message in messages)'
        yield 'inputs = tokenizer(text, return_tensors="pt")'
    else:
        yield "inputs = tokenizer.apply_chat_template("
        yield '    messages, add_generation_prompt=True, return_dict=True, return_tensors="pt"'
        yield ")"
    yield f"written = model.generate(**inputs, {sampling_arguments(asked.sampling)})"
    yield 'answer = written[0, inputs["input_ids"].shape[1] :]'
    yield "print(tokenizer.decode(answer, skip_special_tokens=True))"


def sampling_arguments(sampling: Mapping[str, float]) -> str:
    """The arguments of `generate`."""
    arguments = [f"max_new_tokens={int(sampling.get('max_tokens', _MOST_TOKENS))}"]
    temperature = sampling.get("temperature", 0.0)
    if temperature == 0:
        return ", ".join([*arguments, "do_sample=False"])
    arguments += ["do_sample=True", f"temperature={temperature:g}"]
    arguments.append(f"top_p={sampling.get('top_p', 1.0):g}")
    if sampling.get("top_k", -1) > 0:
        arguments.append(f"top_k={int(sampling['top_k'])}")
    else:
        arguments.append("top_k=0")
    return ", ".join(arguments)


def percent_of(part: int, whole: int) -> str:
    """`12 of 300 (4.0 %)`."""
    if whole == 0:
        return f"{part:,} of {whole:,}"
    return f"{part:,} of {whole:,} ({percent(part / whole)} %)"
