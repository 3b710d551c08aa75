"""An ablation as people read it: one sentence for each rule, two tables, what they are to be read
with.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path

from reasondistill.config.varying import Variant
from reasondistill.markdown import inline
from reasondistill.pipeline.ablating.equal_tokens import TOLERANCE
from reasondistill.pipeline.ablating.record import (
    ABLATION,
    ABLATION_MARKDOWN,
    AblationRecord,
    RuleRecord,
    VariantRecord,
)
from reasondistill.runs.store import write_guarded, write_text
from reasondistill.stages.report.markdown import table
from reasondistill.tables import Table, interval, p_value, percent, points, whole

ONE_SEED = (
    "One seed of each: intervals hold the draw of problems and samples, for these trained models. "
    "How far another seed would fall is not in them; --seeds 3 puts it in."
)
SEVERAL_SEEDS = (
    "Intervals and p-values hold problems, samples and training seeds: they are about the recipe, "
    "not about these trained models. Problems are paired; each seed is another training on the "
    "same data."
)
TWO_SEEDS = (
    "Two seeds tell little of how far seeds are apart: with three the intervals are narrower."
)
OWN_TEXTS = (
    "{names}: learn from what they write themselves. Their tokens are known when they are trained, "
    "and what is then more than 1 % apart is not compared."
)
OWN_TOKENIZERS = (
    "Each variant trains a tokenizer of its own on its examples: tokens of one are not those of "
    "another, and equal numbers of them are not equal texts."
)
BEST_STEP = (
    'keep = "best": all variants train on equal tokens, but the weights that are measured are '
    "those of the step with the lowest validation loss, which may have seen fewer."
)


def sentence(row: RuleRecord, *, comparisons: int) -> str:
    """`examples.k = 4 helps: +3.1 points [0.4, 5.9] over examples.k = 1 on gsm8k …`."""
    over = f"{row.baseline} on {row.benchmark}"
    if row.word == "not compared":
        return (
            f"{row.rule} is not compared with {over}: the tokens in the loss are "
            f"{percent(row.tokens_apart)} % apart."
        )
    gap = f"{points(row.mean)} points {interval(row)}"
    if row.word != "cannot be told":
        told = f"{row.rule} {row.word}: {gap} against {over} ({_p(row, comparisons)})."
        if row.is_again:
            told += " Both values are equal: this is chance, or what other seeds do."
        return f"{told}{_start(row)}"
    size = f"{_some(row.n, 'problem')} × {_some(row.k, 'sample')} × {_some(row.seeds, 'seed')}"
    found = f"{row.rule} cannot be told from {over} at this size: {gap} with {size}."
    return f"{found} {needed(row)}".rstrip() + _start(row)


def _start(row: RuleRecord) -> str:
    """Where more was learnt before by one side than by the other: how much, else nothing."""
    if row.before_apart <= TOLERANCE:
        return ""
    return (
        " Not at equal tokens from the beginning: of the students that they go on from one has "
        f"{percent(row.before_apart)} % fewer in its loss than another."
    )


def _p(row: RuleRecord, comparisons: int) -> str:
    """`p = 0.0123, Holm over 3 comparisons`."""
    text = p_value(row.p_adjusted)
    if not text.startswith("<"):
        text = f"= {text}"
    if comparisons > 1:
        text += f", Holm over {comparisons} comparisons"
    return f"p {text}"


def _some(count: int, thing: str) -> str:
    """`1 seed`, `3 seeds`."""
    if count == 1:
        return f"1 {thing}"
    return f"{whole(count)} {thing}s"


def needed(row: RuleRecord) -> str:
    """What it would take to show a difference like the one that was seen, and what this size
    shows.
    """
    parts: list[str] = []
    size = "more than a million problems"
    if row.needed_problems is not None:
        size = f"about {_rounded(row.needed_problems)} problems"
        if row.needed_seeds is not None and row.needed_seeds > row.seeds:
            size += f" and {_rounded(row.needed_seeds)} seeds of each"
    if row.mean != 0 and row.needed_seeds is not None:
        parts.append(f"One of {percent(abs(row.mean))} points takes {size}")
    if row.smallest is not None:
        parts.append(f"this size shows one from {percent(row.smallest)} points on")
    text = "; ".join(parts)
    if not text:
        return ""
    return f"{text[0].upper()}{text[1:]}."


def _rounded(count: int) -> str:
    """Two digits of a large number: the rest would be a claim."""
    if count < 100:
        return str(count)
    scale = 10 ** (len(str(count)) - 2)
    return whole(round(count / scale) * scale)


# ---- tables --------------------------------------------------------------------------------------


def variants_table(record: AblationRecord) -> Table:
    """One row for each variant: what went in, and its scores."""
    names = [score.benchmark for score in record.variants[0].scores]
    headers = ["variant", "tokens in the loss", "steps", "epochs", "unique rows", "teacher tokens"]
    for name in names:
        headers += [f"{name} %", "95 %, these models", "seeds"]
    rows: list[tuple[str, ...]] = []
    for variant in record.variants:
        cells = [variant.label, *_amounts(variant)]
        for score in variant.scores:
            of_seeds = " · ".join(percent(one) for one in score.seeds.values())
            cells += [percent(score.mean), interval(score), of_seeds]
        rows.append(tuple(cells))
    return Table(tuple(headers), tuple(rows))


def _amounts(variant: VariantRecord) -> list[str]:
    """What a variant is trained on."""
    tokens = _range(list(variant.loss_tokens.values()))
    steps = epochs = rows = teacher = ""
    if variant.steps is not None:
        steps = whole(variant.steps)
    if variant.epochs is not None:
        epochs = f"{variant.epochs:g}"
    if variant.rows is not None and variant.of_rows is not None:
        rows = whole(variant.rows)
        if variant.rows < variant.of_rows:
            rows += f" of {whole(variant.of_rows)}"
    if variant.teacher_tokens is not None:
        teacher = whole(variant.teacher_tokens)
    return [tokens, steps, epochs, rows, teacher]


def _range(values: Sequence[int]) -> str:
    if not values:
        return ""
    low, high = whole(min(values)), whole(max(values))
    if low == high:
        return low
    return f"{low}–{high}"


def rules_table(rules: Sequence[RuleRecord]) -> Table:
    """One row for each comparison."""
    headers = ("rule", "against", "benchmark", "", "points", "95 % interval", "p", "p (Holm)")
    rows: list[tuple[str, ...]] = []
    for row in rules:
        who = (row.rule, row.baseline, row.benchmark, row.word)
        tests = (p_value(row.p_value), p_value(row.p_adjusted))
        apart = ""
        if row.seed_deviation is not None:
            apart = percent(row.seed_deviation)
        rows.append((*who, points(row.mean), interval(row), *tests, apart))
    return Table((*headers, "seeds apart, points"), tuple(rows), numbers=4)


def notes_of(
    variants: Sequence[Variant], own_texts: Sequence[str], rules: Sequence[RuleRecord]
) -> Iterator[str]:
    """What the tables are to be read with."""
    seeds = len(variants[0].seeds)
    yield ONE_SEED if seeds == 1 else SEVERAL_SEEDS
    if seeds == 2:
        yield TWO_SEEDS
    if own_texts:
        yield OWN_TEXTS.format(names=", ".join(own_texts))
    students = [variant.student for variant in variants]
    makes_tokenizer = [
        student.architecture is not None and student.architecture.tokenizer == "train"
        for student in students
    ]
    if any(makes_tokenizer):
        yield OWN_TOKENIZERS
    if any(student.keep == "best" for student in students):
        yield BEST_STEP
    for row in rules:
        if row.left_out:
            yield (
                f"{row.rule} on {row.benchmark}: {whole(row.left_out)} problems are left out, "
                "which one of the models has not answered."
            )


def markdown(record: AblationRecord) -> str:
    """The whole ablation as Markdown."""
    parts = [f"# {inline(record.name)}", inline(headline(record))]
    parts.append("\n".join(f"- {inline(row.sentence)}" for row in record.rules))
    parts += ["## Comparisons", table(rules_table(record.rules).without_blanks())]
    parts += ["## Variants", table(variants_table(record).without_blanks())]
    parts += [f"> {inline(note)}" for note in record.notes]
    return "\n\n".join(part for part in parts if part) + "\n"


def write_ablation(folder: Path, record: AblationRecord) -> None:
    """Write ablation.json and, once all is measured, ablation.md."""
    write_guarded(folder / ABLATION, record.model_dump(mode="json"))
    if record.state == "measured":
        write_text(folder / ABLATION_MARKDOWN, markdown(record))


def headline(record: AblationRecord) -> str:
    """`distilled of demo.toml: 2 variants × 3 seeds, 120,000 tokens in the loss of each`."""
    seeds = len(record.variants[0].seeds)
    size = f"{len(record.variants)} variants × {_some(seeds, 'seed')}"
    text = f"{record.student} of {record.file}: {size}"
    tokens = list(chain.from_iterable(one.loss_tokens.values() for one in record.variants))
    if not tokens and record.tokens is not None:
        tokens = [record.tokens]
    if tokens:
        text += f", {_range(tokens)} tokens in the loss of each training"
    return f"{text}. The first value of a key is what its others are compared with."
