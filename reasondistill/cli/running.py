"""`run`: the stages of a pipeline file, with progress on the terminal."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from reasondistill.cli.console import ClusterFile, DryRun, PipelineFile, RunsDir, Trust, app
from reasondistill.cli.rounding import do_later_rounds, rounds_of
from reasondistill.cli.starting import start
from reasondistill.config import resources


@app.command(
    name="run",
    epilog="Examples:\n\n"
    "  reasondistill run pipelines/demo.toml\n\n"
    "  reasondistill run gsm8k_sft --dry-run\n\n"
    "  reasondistill run demo --set name=hot --set traces.temperature=1.0\n\n"
    "  reasondistill run demo --until examples\n\n"
    "  reasondistill run r1_distill_qwen_1_5b --on slurm --dry-run",
)
def run_command(
    file: PipelineFile,
    only: Annotated[str | None, typer.Option(help="Do this stage alone.")] = None,
    until: Annotated[str | None, typer.Option(help="Stop after this stage.")] = None,
    from_: Annotated[
        str | None,
        typer.Option("--from", help="Begin with this stage; earlier ones must be complete."),
    ] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option(
            "--set", help="Override one key: traces.temperature=1.0; problems.limit=none unsets it"
        ),
    ] = None,
    on: ClusterFile = "local",
    dry_run: DryRun = False,
    keep_old: Annotated[
        bool,
        typer.Option(
            "--keep-old", help="Go on with finished stages although settings have changed since."
        ),
    ] = False,
    wait: Annotated[
        bool, typer.Option("--wait", help="On a cluster: stay until all jobs are over.")
    ] = False,
    trust: Trust = False,
    runs: RunsDir = Path("runs"),
) -> None:
    """Run a pipeline file; what is complete is skipped, what is partial is resumed: samples that
    were stopped in their middle go on there, unless --set traces.continue=false.

    On Slurm the jobs are sent and the command ends: see `status`, `logs`, `cancel`, `resume`.

    With `[rounds]` in the file the student of a round writes for the next one: each round has a
    folder of its own, NAME-round-2 and so on, and begins when the one before is done.

    Stages: problems, traces, verdicts, examples, students, evals, report.
    """
    from reasondistill import config, pipeline

    source = resources.find("pipelines", file)
    settings = config.load_pipeline(source, set_ or [])
    cluster = config.load_cluster(resources.find("clusters", on))
    stages = pipeline.select_stages(only, from_, until)
    folder = runs / settings.name
    run = pipeline.Run(settings, cluster, folder, source, keep_old, tuple(stages))
    rounds = rounds_of(run)
    start(run, stages, dry_run=dry_run, wait=wait, trust=trust)
    if rounds is not None:
        do_later_rounds(rounds, stages, dry_run=dry_run, wait=wait, trust=trust)
