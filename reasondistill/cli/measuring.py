"""`eval`, `compare`, `diff`: measure models, and compare what was measured."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from reasondistill.cli.console import RunsDir, app, out, run_folder
from reasondistill.cli.running import start
from reasondistill.config import resources
from reasondistill.errors import ConfigError
from reasondistill.runs.layout import RunFolder

if TYPE_CHECKING:
    from reasondistill.config import Pipeline
    from reasondistill.records import Difference
    from reasondistill.stages.evals.settings import Change
    from reasondistill.stages.evals.stored import Comparison, Entrant


# ---- eval ----------------------------------------------------------------------------------------


@app.command(
    name="eval",
    epilog="Examples:\n\n  reasondistill eval Qwen/Qwen2.5-1.5B-Instruct --benchmarks "
    "gsm8k,math500\n\n"
    "  reasondistill eval mine=runs/demo/5-students/distilled/model "
    "base=HuggingFaceTB/SmolLM2-135M-Instruct "
    "--benchmarks aime24 --n 64 --settings deepseek-r1 --against base\n\n"
    "  reasondistill eval runs/demo/5-students/distilled/model --benchmarks "
    "gsm_symbolic_12 --prompts question,think",
)
def eval_(
    models: Annotated[
        list[str], typer.Argument(help="Hub ids or folders: MODEL, NAME=MODEL, MODEL@REVISION.")
    ],
    benchmarks: Annotated[
        str,
        typer.Option(
            "--benchmarks",
            "-b",
            help="Names or files, with commas between them: see `list benchmarks`.",
        ),
    ],
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
    on: Annotated[
        str, typer.Option(help="A cluster file, or the name of one in pipelines/clusters.")
    ] = "local",
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run", help="Check everything that needs no weights, print the plan, do nothing."
        ),
    ] = False,
    keep_old: Annotated[
        bool,
        typer.Option("--keep-old", help="Go on with samples although settings have changed since."),
    ] = False,
    runs: RunsDir = Path("runs"),
) -> None:
    """Measure models on benchmarks: pass@1, pass@k, maj@k with intervals, in one report.

    The same command resumes. Another one with the same --name adds models and benchmarks to what
    that run has.
    """
    from reasondistill import config, pipeline

    named = [_named(model) for model in models]
    long = 32_768 if settings is None else None  # a vendor's settings say it; the context clips it
    asked: dict[str, Any] = {
        "benchmarks": names_in(benchmarks),
        "n": n if n == "recommended" else _whole(n),
        "prompt": prompt,
        "prompts": names_in(prompts or ""),
        "settings": settings,
        "temperature": temperature,
        "max_tokens": max_tokens or long,
        "limit": limit,
        "models": [model | {"sampler": sampler} for model in named],
        "against": [against] if against else [],
    }
    label = (
        name or "eval-" + "-".join(dict.fromkeys(Path(b).stem for b in names_in(benchmarks)))[:100]
    )
    values = {
        "name": label,
        "evals": {key: value for key, value in asked.items() if value is not None},
    }
    source = Path.cwd() / "the-eval-command"
    made = config.make_pipeline(values, set_ or [], source=source)
    if RunFolder(runs / made.name).state.exists():
        made = _joined(pipeline.load_run(runs / made.name).pipeline, made)
    cluster = config.load_cluster(resources.find("clusters", on))
    start(
        pipeline.Run(made, cluster, runs / made.name, source, keep_old),
        ["evals", "report"],
        dry_run=dry_run,
    )


def _joined(before: Pipeline, asked: Pipeline) -> Pipeline:
    """What is asked for, with the models and benchmarks that the run had before. Raises ConfigError
    for a run that teaches.
    """
    if before.traces is not None:
        raise ConfigError(
            f"--name {asked.name}: that run teaches; its evals belong to its pipeline file. "
            "Choose another name."
        )
    names = {model.name for model in asked.evals.models}
    kept = tuple(model for model in before.evals.models if model.name not in names)
    benchmarks = tuple(
        name for name in before.evals.benchmarks if name not in asked.evals.benchmarks
    )
    if kept or benchmarks:
        out.print(
            "[dim]also in this run: "
            f"{', '.join([*(model.name for model in kept), *benchmarks])}[/]",
            soft_wrap=True,
        )
    joined = {
        "models": (*kept, *asked.evals.models),
        "benchmarks": (*benchmarks, *asked.evals.benchmarks),
    }
    return asked.model_copy(update={"evals": asked.evals.model_copy(update=joined)})


_LABEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*=.")


def _named(text: str) -> dict[str, str]:
    """`base=org/model@revision` → name, model, revision; without a name the last part of the path
    that says something.
    """
    label, model = "", text
    if _LABEL.match(text) and not Path(text).exists():
        label, _, model = text.partition("=")
    given, at, revision = model.rpartition("@")
    pinned = (
        {"model": given, "revision": revision}
        if at and not Path(model).exists()
        else {"model": model}
    )
    parts = [part for part in pinned["model"].rstrip("/").split("/") if part not in ("model", "")]
    return pinned | {"name": label or (parts[-1] if parts else text).removeprefix("shipped:")}


def names_in(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


def _whole(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise ConfigError(f"--n {text}: want a whole number of samples, or `recommended`.")
    return int(text)


# ---- compare -------------------------------------------------------------------------------------


@app.command(
    epilog="Examples:\n\n  reasondistill compare demo/distilled demo/base\n\n"
    "  reasondistill compare demo/distilled hot/distilled --against demo/base --flips 20\n\n"
    "  reasondistill compare demo/distilled demo/answer-only --benchmark "
    "gsm_symbolic_12 --out compared.json"
)
def compare(
    models: Annotated[
        list[str],
        typer.Argument(
            help="RUN/MODEL. With two and no --against, the first is compared with the second."
        ),
    ],
    against: Annotated[
        str | None, typer.Option(help="RUN/MODEL that all others are compared with.")
    ] = None,
    benchmark: Annotated[
        str | None, typer.Option(help="Only this one; by default all that everybody answered.")
    ] = None,
    common: Annotated[
        bool,
        typer.Option("--common", help="Where problem sets differ, compare on what all answered."),
    ] = False,
    flips: Annotated[
        int, typer.Option(min=0, help="Print this many problems that flipped, to be read.")
    ] = 5,
    target: Annotated[
        Path | None,
        typer.Option(
            "--out", help="Write everything, all flips with both texts too, into this JSON file."
        ),
    ] = None,
    runs: RunsDir = Path("runs"),
) -> None:
    """Paired comparison of stored samples: difference with interval, exact p, who flipped; better,
    worse or tied at this n.
    """
    from reasondistill.stages.evals import stored

    entrants = [stored.Entrant.parse(text, runs) for text in models]
    if against is None:
        if len(entrants) != 2:
            raise ConfigError(
                f"{len(entrants)} models and no --against: name two, or say which one the "
                "others are compared with."
            )
        baseline = entrants.pop()
    else:
        baseline = stored.Entrant.parse(against, runs)
    made = stored.compare(entrants, baseline, benchmark=benchmark, common=common)
    _print_scores(made)
    _print_left_out(made)
    _print_differences(made)
    for name, found in made.changes.items():
        _print_changes(f"{entrants[0].label} and {baseline.label} on {name} differ in", found)
    _print_flips(made, entrants[0], baseline, flips)
    if target is not None:
        _write_comparison(made, entrants[0], baseline, target)


def _print_scores(made: Comparison) -> None:
    from reasondistill.statistics import mean_interval

    table = Table(
        "model", "benchmark", "pass@1", "95 % interval", "n × k", box=None, header_style="bold"
    )
    for (benchmark, model), sheet in made.sheets.items():
        if not sheet.problems:
            continue
        found = mean_interval(sheet.correct)
        interval = f"[{100 * found.low:.1f}, {100 * found.high:.1f}]"
        table.add_row(
            model,
            benchmark,
            f"{100 * found.mean:.1f} %",
            escape(interval),
            f"{found.n} × {found.k}",
        )
    out.print(table)


def _print_left_out(made: Comparison) -> None:
    """Which problems each comparison does without, and why: one line for each of them."""
    for row in made.left_out:
        named = [
            f"{problem} ({why})" for problem, why in list(row.problems.items())[:_MOST_LEFT_OUT]
        ]
        rest = len(row.problems) - len(named)
        more = [f"and {rest:,} more"] if rest else []
        head = (
            f"{row.model} − {row.baseline} on {row.benchmark}: compared on {row.left:,} "
            f"problems, {len(row.problems):,} left out"
        )
        said = f"{head}: {', '.join(named + more)}"
        out.print(f"  [yellow]{escape(said)}[/]", soft_wrap=True)


# So many are named in print; the file of --out has all.
_MOST_LEFT_OUT = 3
_TONE = {"better": "green", "worse": "red", "tied": "yellow"}


def _print_differences(made: Comparison) -> None:
    from reasondistill.statistics import verdict_word

    table = Table(
        "model",
        "against",
        "benchmark",
        "",
        "points",
        "95 % interval",
        "p",
        "p (Holm)",
        "flips",
        box=None,
        header_style="bold",
    )
    for row in made.differences:
        table.add_row(*_difference_cells(row))
    for label, pooled in made.pooled.items():
        for name, gap in (
            ("all, by problem", pooled.by_problem),
            ("all, by benchmark", pooled.by_benchmark),
        ):
            word = verdict_word(gap)
            interval = f"[{100 * gap.low:+.1f}, {100 * gap.high:+.1f}]"
            cells = (
                f"[{_TONE[word]}]{word}[/]",
                f"{100 * gap.mean:+.1f}",
                escape(interval),
                "",
                f"{gap.p_value:.2g}",
                "",
            )
            table.add_row(label, made.differences[0].baseline, name, *cells)
    out.print(table)
    if any(row.word == "tied" for row in made.differences):
        out.print(
            "[dim]tied: at this number of problems and samples no difference is shown; "
            "`power` says how many it takes.[/]"
        )


def _difference_cells(row: Difference) -> tuple[str, ...]:
    interval = f"[{100 * row.low:+.1f}, {100 * row.high:+.1f}]"
    flips = "" if row.gained is None else f"+{row.gained} −{row.lost}"
    numbers = (
        f"{100 * row.mean:+.1f}",
        escape(interval),
        f"{row.p_value:.2g}",
        f"{row.p_adjusted:.2g}",
        flips,
    )
    return row.model, row.baseline, row.benchmark, f"[{_TONE[row.word]}]{row.word}[/]", *numbers


def _print_changes(title: str, found: list[Change]) -> None:
    if not found:
        return
    table = Table(title, "first", "second", box=None, header_style="bold")
    for change in found:
        table.add_row(escape(change.name), escape(change.ours or "–"), escape(change.theirs or "–"))
    out.print(table)


def _print_flips(made: Comparison, ours: Entrant, theirs: Entrant, count: int) -> None:
    from reasondistill.stages.evals.stored import read_flips

    for benchmark, found in made.flips.items():
        if found and count:
            out.print(
                f"\n[bold]{benchmark}[/]: {len(found):,} problems on which the two differ; "
                "the largest differences first"
            )
        for flip in read_flips(ours, theirs, benchmark, found[:count]):
            question = " ".join(flip.problem.question.split())
            out.print(
                f"[cyan]{flip.problem.id}[/] "
                f"{escape(question[:160])}{'…' if len(question) > 160 else ''}",
                soft_wrap=True,
            )
            shown = zip(
                (ours, theirs), flip.answers, (flip.flip.ours, flip.flip.theirs), strict=True
            )
            said = " · ".join(
                f"{entrant.label} {100 * share:.0f} %: {answer or 'no answer'}"
                for entrant, answer, share in shown
            )
            out.print(f"  gold {escape(flip.problem.answer)} · {escape(said)}", soft_wrap=True)


def _write_comparison(made: Comparison, ours: Entrant, theirs: Entrant, target: Path) -> None:
    from dataclasses import asdict

    from reasondistill.runs.store import write_json
    from reasondistill.stages.evals.stored import read_flips

    flipped = {
        benchmark: [
            {
                "problem": flip.problem.model_dump(),
                "shares": [flip.flip.ours, flip.flip.theirs],
                "answers": flip.answers,
                "texts": flip.texts,
            }
            for flip in read_flips(ours, theirs, benchmark, found)
        ]
        for benchmark, found in made.flips.items()
    }
    value = {
        "differences": [row.model_dump() for row in made.differences],
        "pooled": {label: asdict(pooled) for label, pooled in made.pooled.items()},
        "left out": [asdict(row) for row in made.left_out],
        "settings that differ": {
            name: [asdict(change) for change in found] for name, found in made.changes.items()
        },
        "flips": flipped,
    }
    write_json(target, value)
    out.print(f"{target}: {sum(map(len, flipped.values())):,} flips", soft_wrap=True)


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
    from dataclasses import asdict

    from reasondistill.stages.evals.stored import changed_settings

    found = changed_settings(_evals_of(first, runs), _evals_of(second, runs))
    if as_json:
        print(
            json.dumps(
                {name: [asdict(change) for change in changes] for name, changes in found.items()},
                indent=2,
                ensure_ascii=False,
            )
        )
        return
    for name, changes in found.items():
        _print_changes(name, changes)
        if not changes:
            out.print(f"[bold]{name}[/]: no setting differs")


def _evals_of(text: str, runs: Path) -> tuple[Path, str | None]:
    """The evals folder of a run and, for RUN/MODEL, the model."""
    from reasondistill.stages.evals.stored import EVALS, Entrant

    folder = run_folder(text, runs)
    if (folder / EVALS).is_dir():
        return folder / EVALS, None
    entrant = Entrant.parse(text, runs)
    return entrant.evals_folder, entrant.model
