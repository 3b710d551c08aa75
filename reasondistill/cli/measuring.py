"""`eval`, `compare`, `diff`: measure models, and compare what was measured."""

from __future__ import annotations

import re
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from rich.markup import escape

from reasondistill.cli.console import (
    ClusterFile,
    DryRun,
    RunsDir,
    Trust,
    app,
    folder_to_read,
    named,
    out,
    plain_table,
    print_json,
    say,
)
from reasondistill.cli.fitting import print_table
from reasondistill.cli.speaking import (
    AsJson,
    Quiet,
    Speech,
    Verbose,
    be_verbose,
    command_line,
    print_next,
    speaking,
    warn,
)
from reasondistill.cli.starting import start
from reasondistill.config import resources
from reasondistill.errors import ConfigError
from reasondistill.foreign_text import shortened
from reasondistill.runs.layout import RunFolder
from reasondistill.tables import (
    MINUS,
    ScoreRow,
    Table,
    counted,
    difference_table,
    interval,
    p_value,
    points,
    score_table,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from reasondistill.cli.documents import CompareDocument
    from reasondistill.config import Pipeline
    from reasondistill.stages.evals.entrants import Entrant
    from reasondistill.stages.evals.settings import Change
    from reasondistill.stages.evals.stored import Comparison, FlipToRead, LeftOut
    from reasondistill.statistics import PairedEstimate

Metric = Annotated[
    list[str] | None,
    typer.Option(
        "--metric",
        help="Of another tool's logs: by which metric a sample is right, where they have several. "
        "Again for another benchmark.",
    ),
]
# Tokens per answer where nothing else is said.
_MAX_TOKENS = 32_768
# Of the benchmarks' names, in the name of a run.
_LONGEST_NAME = 100
# Of a number of samples.
_MOST_DIGITS = 9
# What `power` takes.
LEAST_EFFECT, MOST_EFFECT, LEAST_PROBLEMS = 0.001, 0.9, 2
# Of a question that is printed.
_QUESTION_CHARACTERS = 160
# Of a setting that is printed; the file of --out has all of it.
_SETTING_CHARACTERS = 200
# `NAME=` before a model.
_LABEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*=.")


# ---- eval ----------------------------------------------------------------------------------------


@app.command(
    name="eval",
    epilog="Examples:\n\n  reasondistill eval Qwen/Qwen2.5-1.5B-Instruct --benchmarks "
    "gsm8k,math500\n\n"
    "  reasondistill eval mine=runs/demo/5-students/distilled/model "
    "base=HuggingFaceTB/SmolLM2-135M-Instruct "
    "--benchmarks aime24 --n 64 --settings deepseek-r1 --against base\n\n"
    "  reasondistill eval runs/demo/5-students/distilled/model --benchmarks "
    "gsm_symbolic_12 --prompts question,think\n\n"
    "  reasondistill eval mine=out/lora base=Qwen/Qwen2.5-0.5B-Instruct --base "
    "Qwen/Qwen2.5-0.5B-Instruct -b gsm8k --against base\n\n"
    "  reasondistill eval runs/demo/5-students/distilled/model --benchmarks "
    "gsm_symbolic_12 --name scores --json",
)
def eval_command(
    models: Annotated[
        list[str],
        typer.Argument(
            help="Hub ids or folders, of LoRA adapters too: MODEL, NAME=MODEL, MODEL@REVISION."
        ),
    ],
    benchmarks: Annotated[
        str,
        typer.Option(
            "--benchmarks",
            "-b",
            help="Names or files, with commas between them: see `list benchmarks`.",
        ),
    ],
    base: Annotated[
        str | None,
        typer.Option(
            help="What LoRA adapters among the models were trained on, where it is not what they "
            "say: a folder, a hub id or ID@REVISION."
        ),
    ] = None,
    n: Annotated[str, typer.Option(help="Samples per problem, or `recommended`.")] = "recommended",
    prompt: Annotated[
        str | None,
        typer.Option(help="A prompt for all; by default a model's own, else the benchmark's."),
    ] = None,
    prompts: Annotated[
        str | None, typer.Option(help="Further prompts, to see how much they matter.")
    ] = None,
    settings: Annotated[
        str | None,
        typer.Option(
            help="Sampling that a vendor recommends: greedy, deepseek-r1, qwen3-thinking, …"
        ),
    ] = None,
    temperature: Annotated[float | None, typer.Option(help="0 is greedy.")] = None,
    max_tokens: Annotated[
        int | None,
        typer.Option("--max-tokens", help="Tokens per answer; by default 32,768 or the context."),
    ] = None,
    sampler: Annotated[
        str,
        typer.Option(help="vllm, openai (address in the cluster file), or scripted for dry runs."),
    ] = "vllm",
    limit: Annotated[int | None, typer.Option(help="The first problems only.")] = None,
    against: Annotated[
        str | None, typer.Option(help="The name of the model that the others are compared with.")
    ] = None,
    name: Annotated[
        str | None, typer.Option(help="Name of the run folder; by default made of the benchmarks.")
    ] = None,
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="Override one key: verdicts.policy=strict")
    ] = None,
    on: ClusterFile = "local",
    dry_run: DryRun = False,
    keep_old: Annotated[
        bool,
        typer.Option("--keep-old", help="Go on with samples although settings have changed since."),
    ] = False,
    trust: Trust = False,
    quiet: Quiet = False,
    as_json: AsJson = False,
    verbose: Verbose = False,
    runs: RunsDir = Path("runs"),
) -> None:
    """Measure models on benchmarks: pass@1, pass@k, maj@k with intervals, in one report.

    The same command resumes. Another one with the same --name adds models and benchmarks to what
    that run has.
    """
    from reasondistill import config, pipeline

    if verbose:
        be_verbose()
    with speaking("eval", quiet=quiet, as_json=as_json) as speech:
        names = names_in(benchmarks)
        if max_tokens is None and settings is None:
            # A vendor's settings say it themselves; the model's context clips it.
            max_tokens = _MAX_TOKENS
        evals: dict[str, Any] = {
            "benchmarks": names,
            "n": samples_of(n),
            "prompt": prompt,
            "prompts": names_in(prompts or ""),
            "settings": settings,
            "temperature": temperature,
            "max_tokens": max_tokens,
            "limit": limit,
            "models": with_base(
                [parse_model(model) | {"sampler": sampler} for model in models], base
            ),
            "against": [],
        }
        if against:
            evals["against"] = [against]
        given = {key: value for key, value in evals.items() if value is not None}
        if not name:
            stems = "-".join(dict.fromkeys(Path(benchmark).stem for benchmark in names))
            name = f"eval-{stems[:_LONGEST_NAME]}"
        source = Path.cwd() / "the-eval-command"
        values = {"name": name, "evals": given}
        pipeline_settings = config.make_pipeline(values, set_ or [], source=source)
        folder = runs / pipeline_settings.name
        is_own = True
        if RunFolder(folder).state.exists():
            before = pipeline.load_run(folder, trust=trust)
            pipeline_settings = joined(before.pipeline, pipeline_settings)
            is_own = before.is_own
        cluster = config.load_cluster(resources.find("clusters", on))
        run = pipeline.Run(pipeline_settings, cluster, folder, source, keep_old, is_own=is_own)
        start(run, ["evals", "report"], dry_run=dry_run, trust=trust, speech=speech)


def joined(before: Pipeline, wanted: Pipeline) -> Pipeline:
    """What is asked for, with the models and benchmarks that the run had before. Raises ConfigError
    for a run that trains students.
    """
    if before.traces is not None:
        raise ConfigError(
            f"--name {wanted.name}: that run trains students; its evals belong to its pipeline "
            "file. Choose another name."
        )
    names = {model.name for model in wanted.evals.models}
    models = tuple(model for model in before.evals.models if model.name not in names)
    benchmarks = tuple(
        name for name in before.evals.benchmarks if name not in wanted.evals.benchmarks
    )
    if models or benchmarks:
        both = ", ".join([*(model.name for model in models), *benchmarks])
        say(f"[dim]also in this run: {named(both)}[/]")
    together = {
        "models": (*models, *wanted.evals.models),
        "benchmarks": (*benchmarks, *wanted.evals.benchmarks),
    }
    evals = wanted.evals.model_copy(update=together)
    return wanted.model_copy(update={"evals": evals})


def parse_model(text: str) -> dict[str, str]:
    """`base=org/model@revision` → name, model, revision; without a name the last part of the path
    that says something.
    """
    label, model = "", text
    if _LABEL.match(text) and not Path(text).exists():
        label, _, model = text.partition("=")
    values = {"model": model}
    without_revision, at, revision = model.rpartition("@")
    if at and not Path(model).exists():
        values = {"model": without_revision, "revision": revision}
    if not label:
        parts = values["model"].rstrip("/").split("/")
        telling = [part for part in parts if part not in ("model", "")]
        label = text
        if telling:
            label = telling[-1]
        label = label.removeprefix("shipped:")
    return values | {"name": label}


def with_base(models: list[dict[str, str]], base: str | None) -> list[dict[str, str]]:
    """The models, those among them that are LoRA adapters in folders with this base; hub ids too
    where no folder is one. Raises ConfigError where there is none of either.
    """
    from reasondistill.models.adapters import is_local_adapter
    from reasondistill.models.weights import is_hub_id, named_folder

    if base is None:
        return models
    adapters = [model["model"] for model in models if is_local_adapter(model["model"])]
    if not adapters:
        absent = [m["model"] for m in models if not named_folder(m["model"]).exists()]
        adapters = [name for name in absent if is_hub_id(name)]
    if not adapters:
        raise ConfigError(f"--base {base}: none of the models is a LoRA adapter.")
    return [m | ({"base": base} if m["model"] in adapters else {}) for m in models]


def names_in(text: str) -> list[str]:
    """Names with commas between them."""
    names = [name.strip() for name in text.split(",")]
    return [name for name in names if name]


def samples_of(text: str) -> int | str:
    """The number of samples that --n names. Raises ConfigError."""
    if text == "recommended":
        return text
    if not text.isdecimal() or len(text) > _MOST_DIGITS or int(text) < 1:
        raise ConfigError(f"--n {text}: want a whole number of samples, or `recommended`.")
    return int(text)


# ---- compare -------------------------------------------------------------------------------------


@app.command(
    epilog="Examples:\n\n  reasondistill compare demo/distilled demo/base\n\n"
    "  reasondistill compare demo/distilled hot/distilled --against demo/base --flips 20\n\n"
    "  reasondistill compare student=eval/runs/small/sft base=eval/runs/small/base "
    "teacher=eval/runs/traces/teacher --markdown\n\n"
    "  reasondistill compare demo/distilled demo/answer-only --benchmark "
    "gsm_symbolic_12 --out compared.json\n\n"
    "  reasondistill compare new=out/a/samples_gsm8k_2025-01-01T12-00-00.0.jsonl "
    "old=out/b/samples_gsm8k_2025-01-02T12-00-00.0.jsonl --metric exact_match,strict-match\n\n"
    "  reasondistill compare demo/distilled demo/base --json"
)
def compare(
    models: Annotated[
        list[str],
        typer.Argument(
            help="RUN/MODEL or NAME=RUN/MODEL; a run may be packed. Or a log of another tool, or "
            "its folder: lm-eval's samples_*.jsonl, inspect's .eval, lighteval's "
            "details_*.parquet. Without --against the first is compared with each of the others."
        ),
    ],
    against: Annotated[
        str | None, typer.Option(help="RUN/MODEL, or log, that all others are compared with.")
    ] = None,
    benchmark: Annotated[
        str | None, typer.Option(help="Only this one; by default all that everybody answered.")
    ] = None,
    common: Annotated[
        bool,
        typer.Option("--common", help="Where problem sets differ, compare on what all answered."),
    ] = False,
    metric: Metric = None,
    flips: Annotated[
        int, typer.Option(min=0, help="Print this many problems that flipped, to be read.")
    ] = 5,
    markdown: Annotated[
        bool, typer.Option("--markdown", help="Print the two tables alone, in Markdown.")
    ] = False,
    target: Annotated[
        Path | None,
        typer.Option(
            "--out", help="Write everything, all flips with both texts too, into this JSON file."
        ),
    ] = None,
    quiet: Quiet = False,
    as_json: AsJson = False,
    runs: RunsDir = Path("runs"),
) -> None:
    """Paired comparison of stored samples: difference with interval, exact p, who flipped; better,
    worse or tied at this n. Runs may be packed; models of one run may have other numbers of samples
    than those of another. Logs of one other tool are paired by its own problems, and what it graded
    is taken as it stands.
    """
    from reasondistill.stages.evals import stored
    from reasondistill.stages.evals.entrants import parse_entrant

    with speaking("compare", quiet=quiet, as_json=as_json) as speech:
        entrants = [parse_entrant(text, runs) for text in models]
        if against is not None:
            others = [parse_entrant(against, runs)]
            baseline_text = against
        elif len(entrants) > 1:
            entrants, others = entrants[:1], entrants[1:]
            baseline_text = models[1]
        else:
            raise ConfigError(
                f"{entrants[0].label}: a single model and no --against: name two, or say which one "
                "it is compared with."
            )
        comparison = stored.compare(
            entrants, others, benchmark=benchmark, common=common, wanted_metrics=metric or ()
        )
        following = next_of_comparison(
            comparison, models[0], baseline_text, metric=metric or (), runs=runs
        )
        if markdown:
            with speech.last():
                print_markdown(comparison)
        else:
            print_comparison(comparison, entrants, others, flips, speech)
        if target is not None:
            write_comparison(comparison, entrants[0], others[0], target)
        if not markdown:
            print_next(following)
        speech.end(comparison_document(comparison, following))


def print_comparison(
    comparison: Comparison,
    entrants: Sequence[Entrant],
    others: Sequence[Entrant],
    flips: int,
    speech: Speech,
) -> None:
    """Scores, what is left out, what differs in settings, flips to read, and last the differences,
    which --quiet prints too.
    """
    print_table(entrants_table(comparison))
    print_graded_by(comparison, entrants[0].tool)
    for row in comparison.left_out:
        print_left_out(row)
    first, baseline = entrants[0], others[0]
    if len(others) == 1:
        for name, changes in comparison.changes.items():
            print_changes(f"on {name} differs", changes, first.label, baseline.label)
        print_flips(comparison, first, baseline, flips)
    with speech.last():
        print_differences(comparison)


def next_of_comparison(
    comparison: Comparison, model: str, baseline: str, *, metric: Sequence[str], runs: Path
) -> list[str]:
    """What may be asked next: how many problems it takes where something is tied, which settings
    differ between two models of runs.
    """
    is_of_runs = not any(comparison.metrics.values())
    commands: list[str] = []
    if any(row.word == "tied" for row in comparison.differences):
        names = list(dict.fromkeys(row.benchmark for row in comparison.differences))
        gap = max((abs(row.mean) for row in comparison.differences), default=0.0)
        effect = min(max(gap, LEAST_EFFECT), MOST_EFFECT)
        options = [f"--like={model}", f"--and={baseline}", f"--effect={effect:.3f}"]
        options += [f"--metric={one}" for one in metric]
        problems = max(row.n for row in comparison.differences if row.benchmark == names[0])
        options.append(f"--problems={max(problems, LEAST_PROBLEMS)}")
        commands.append(command_line("power", runs=runs, options=options))
    if is_of_runs:
        commands.append(command_line("diff", model, baseline, runs=runs))
    return commands


def comparison_document(comparison: Comparison, following: Sequence[str]) -> CompareDocument:
    """What --json prints."""
    from reasondistill.cli import documents
    from reasondistill.cli.documents import (
        ChangeRow,
        CompareDocument,
        FlipRow,
        LeftOutRow,
        PooledRow,
        as_text,
        difference_rows,
    )
    from reasondistill.statistics import mean_interval, verdict_word

    scores: list[documents.ScoreRow] = []
    for (benchmark, model), sheet in comparison.sheets.items():
        if sheet.problems:
            found = mean_interval(sheet.correct)
            row = documents.ScoreRow(
                model=model,
                benchmark=benchmark,
                metric="pass@1",
                mean=found.mean,
                low=found.low,
                high=found.high,
                n=found.n,
                k=found.k,
            )
            scores.append(row)
    pooled: list[PooledRow] = []
    for (model, baseline), both in comparison.pooled.items():
        weighted: list[tuple[Literal["problem", "benchmark"], PairedEstimate]] = [
            ("problem", both.by_problem),
            ("benchmark", both.by_benchmark),
        ]
        for weight, gap in weighted:
            row = PooledRow(
                model=model,
                baseline=baseline,
                weight=weight,
                word=verdict_word(gap),
                mean=gap.mean,
                low=gap.low,
                high=gap.high,
                n=gap.n,
                p_value=gap.p_value,
            )
            pooled.append(row)
    changes: list[ChangeRow] = []
    for benchmark, several in comparison.changes.items():
        for change in several:
            row = ChangeRow(
                benchmark=benchmark,
                setting=change.name,
                model=change.ours or None,
                baseline=change.theirs or None,
            )
            changes.append(row)
    flips: list[FlipRow] = []
    for benchmark, several in comparison.flips.items():
        for flip in several:
            row = FlipRow(
                benchmark=benchmark,
                problem=flip.problem_id,
                model_share=flip.ours,
                baseline_share=flip.theirs,
            )
            flips.append(row)
    left_out: list[LeftOutRow] = []
    for one in comparison.left_out:
        row = LeftOutRow(
            benchmark=one.benchmark,
            model=one.model,
            baseline=one.baseline,
            left=one.left,
            problems=dict(one.problems),
        )
        left_out.append(row)
    metrics = {name: metric for name, metric in comparison.metrics.items() if metric is not None}
    return CompareDocument(
        command="compare",
        scores=tuple(scores),
        differences=difference_rows(comparison.differences),
        pooled=tuple(pooled),
        left_out=tuple(left_out),
        changes=tuple(changes),
        flips=tuple(flips),
        metrics=metrics,
        notes=tuple(comparison.notes),
        next=tuple(map(as_text, following)),
    )


def entrants_table(comparison: Comparison) -> Table:
    """pass@1 of each model on each benchmark."""
    from reasondistill.statistics import mean_interval

    rows: list[ScoreRow] = []
    for (benchmark, model), sheet in comparison.sheets.items():
        if sheet.problems:
            rows.append(ScoreRow(model, benchmark, mean_interval(sheet.correct)))
    return score_table(rows).without(["tokens"])


def print_graded_by(comparison: Comparison, tool: str) -> None:
    """Of logs: by which metric of the tool samples are right, and what else there is to know."""
    for benchmark, metric in comparison.metrics.items():
        if metric is not None:
            line = f"{benchmark}: right by {metric}, as {tool} graded it"
            say(f"[dim]{named(line)}[/]")
    for note in comparison.notes:
        warn(f"  [yellow]{named(note)}[/]")


def print_left_out(row: LeftOut) -> None:
    """Which problems a comparison does without, and why, in one line."""
    problems = [f"{problem} ({why})" for problem, why in row.problems.items()]
    some = problems[:_MOST_LEFT_OUT]
    more = len(problems) - len(some)
    if more:
        some.append(f"and {more:,} more")
    head = (
        f"{row.model} − {row.baseline} on {row.benchmark}: compared on "
        f"{counted(row.left, 'problem')}, {len(problems):,} left out"
    )
    names = ", ".join(some)
    warn(f"  [yellow]{named(head)}: {named(names)}[/]")


# So many are named in print; the file of --out has all.
_MOST_LEFT_OUT = 3


def print_differences(comparison: Comparison) -> None:
    """Each difference with its interval, then those over all benchmarks."""
    print_table(differences_table(comparison), drops=("flips", "p"), groups=2)
    if any(row.word == "tied" for row in comparison.differences):
        out.print(
            "[dim]tied: at this number of problems and samples no difference is shown; "
            "`power` says how many it takes.[/]"
        )


def differences_table(comparison: Comparison) -> Table:
    """Each difference on each benchmark, then those over all benchmarks."""
    table = difference_table(comparison.differences).without(["n × k"])
    for who, pooled in comparison.pooled.items():
        by_problem = (*who, "all, by problem", *pooled_cells(pooled.by_problem))
        by_benchmark = (*who, "all, by benchmark", *pooled_cells(pooled.by_benchmark))
        table = table.with_rows([by_problem, by_benchmark])
    return table


def print_markdown(comparison: Comparison) -> None:
    """The two tables for a README, and what is left out of a difference."""
    from reasondistill.stages.report.markdown import table

    say(escape(table(entrants_table(comparison))))
    say("")
    for benchmark, metric in comparison.metrics.items():
        if metric is not None:
            say(f"{named(benchmark)}: right by {named(metric)}.\n")
    say(escape(table(differences_table(comparison).without_blanks())))
    for row in comparison.left_out:
        print_left_out(row)


def pooled_cells(gap: PairedEstimate) -> tuple[str, ...]:
    """A difference over all benchmarks, as the table of differences has it."""
    from reasondistill.statistics import verdict_word

    return verdict_word(gap), points(gap.mean), interval(gap), "", p_value(gap.p_value), ""


def print_changes(title: str, changes: list[Change], ours: str, theirs: str) -> None:
    """Settings that differ, below the names of the two; nothing when none does."""
    if not changes:
        return
    out.print(f"[bold]{named(title)}[/]")
    table = plain_table("setting", named(ours), named(theirs))
    for change in changes:
        values = (change.ours or "–", change.theirs or "–")
        cells = [named(shortened(value, _SETTING_CHARACTERS)) for value in values]
        table.add_row(named(change.name), *cells)
    out.print(table)


def print_flips(comparison: Comparison, ours: Entrant, theirs: Entrant, count: int) -> None:
    """The first so many problems of each benchmark on which the two differ, to be read."""
    from reasondistill.stages.evals.stored import read_flips

    for benchmark, flips in comparison.flips.items():
        if flips and count:
            out.print(
                f"\n[bold]{named(benchmark)}[/]: {counted(len(flips), 'problem')} on which the two "
                "differ; the largest differences first"
            )
        metric = comparison.metrics.get(benchmark)
        for flip in read_flips(ours, theirs, benchmark, flips[:count], metric):
            print_flip(flip, ours, theirs)


def print_flip(flip: FlipToRead, ours: Entrant, theirs: Entrant) -> None:
    """The beginning of a question, its gold answer, and what each of the two answered."""
    question = " ".join(flip.problem.question.split())
    beginning = question[:_QUESTION_CHARACTERS]
    if beginning != question:
        beginning += "…"
    say(f"[cyan]{named(flip.problem.id)}[/] {named(beginning)}")
    shares = (flip.flip.ours, flip.flip.theirs)
    answers: list[str] = []
    for entrant, answer, share in zip((ours, theirs), flip.answers, shares, strict=True):
        shown = answer or "no answer"
        answers.append(f"{entrant.label} {100 * share:.0f} %: {shown}")
    both = " · ".join(answers)
    say(f"  gold {named(flip.problem.answer)} · {named(both)}")


def write_comparison(comparison: Comparison, ours: Entrant, theirs: Entrant, target: Path) -> None:
    """Everything as JSON, with both texts of each problem on which the two differ."""
    from reasondistill.runs.store import write_json
    from reasondistill.stages.evals.stored import read_flips

    flips: dict[str, list[dict[str, Any]]] = {}
    for benchmark, changed in comparison.flips.items():
        rows = read_flips(ours, theirs, benchmark, changed, comparison.metrics.get(benchmark))
        flips[benchmark] = [flip_values(row) for row in rows]
    value: dict[str, Any] = {
        "differences": [row.model_dump() for row in comparison.differences],
        "pooled": pooled_values(comparison),
        "left out": [asdict(row) for row in comparison.left_out],
        "settings that differ": changes_values(comparison.changes),
        "flips": flips,
    }
    if any(comparison.metrics.values()):
        value |= {"right by": dict(comparison.metrics), "notes": list(comparison.notes)}
    write_json(target, value)
    number = sum(len(rows) for rows in flips.values())
    say(f"{named(target)}: {counted(number, 'flip')}")


def pooled_values(comparison: Comparison) -> dict[str, Any]:
    """Differences over all benchmarks as JSON, by model; by `model − baseline` where there are
    several baselines.
    """
    baselines = {other for _, other in comparison.pooled}
    values: dict[str, Any] = {}
    for (model, other), pooled in comparison.pooled.items():
        name = model
        if len(baselines) > 1:
            name = f"{model} {MINUS} {other}"
        values[name] = asdict(pooled)
    return values


def flip_values(row: FlipToRead) -> dict[str, Any]:
    """A problem on which the two differ, as JSON."""
    return {
        "problem": row.problem.model_dump(),
        "shares": [row.flip.ours, row.flip.theirs],
        "answers": row.answers,
        "texts": row.texts,
    }


def changes_values(changes: Mapping[str, Sequence[Change]]) -> dict[str, list[dict[str, Any]]]:
    """Settings that differ, as JSON."""
    values: dict[str, list[dict[str, Any]]] = {}
    for name, rows in changes.items():
        values[name] = [asdict(change) for change in rows]
    return values


# ---- diff ----------------------------------------------------------------------------------------


@app.command(
    epilog="Examples:\n\n  reasondistill diff demo hot\n\n  reasondistill diff "
    "demo/distilled demo/base --json"
)
def diff(
    first: Annotated[str, typer.Argument(help="A run, or RUN/MODEL.")],
    second: Annotated[str, typer.Argument(help="Another one.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    runs: RunsDir = Path("runs"),
) -> None:
    """Name every setting that differs between two evals: model, prompt hash, sampling, benchmark,
    engine versions, grader.
    """
    from reasondistill.stages.evals.stored import changed_settings

    changed = changed_settings(evals_of(first, runs), evals_of(second, runs))
    if as_json:
        print_json(changes_values(changed))
        return
    for name, changes in changed.items():
        print_changes(name, changes, first, second)
        if not changes:
            out.print(f"[bold]{named(name)}[/]: no setting differs")


def evals_of(text: str, runs: Path) -> tuple[Path, str | None]:
    """The evals folder of a run and, for RUN/MODEL, the model."""
    from reasondistill.stages.evals.entrants import EVALS, RunEntrant

    folder = folder_to_read(text, runs)
    if (folder / EVALS).is_dir():
        return folder / EVALS, None
    entrant = RunEntrant.parse(text, runs)
    return entrant.evals_folder, entrant.model
