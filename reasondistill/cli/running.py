"""`run`: the stages of a pipeline file, with progress on the terminal."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from reasondistill.cli.console import ClusterFile, DryRun, PipelineFile, RunsDir, Trust, app
from reasondistill.cli.rounding import do_later_rounds, rounds_of
from reasondistill.cli.speaking import AsJson, Quiet, Verbose, be_verbose, speaking
from reasondistill.cli.starting import start
from reasondistill.config import resources
from reasondistill.errors import ConfigError


@app.command(
    name="run",
    epilog="Examples:\n\n"
    "  reasondistill run pipelines/demo.toml\n\n"
    "  reasondistill run gsm8k_sft --dry-run\n\n"
    "  reasondistill run demo --set name=hot --set traces.temperature=1.0\n\n"
    "  reasondistill run demo --until examples\n\n"
    "  reasondistill run demo --quiet --json\n\n"
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
    quiet: Quiet = False,
    as_json: AsJson = False,
    verbose: Verbose = False,
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

    if verbose:
        be_verbose()
    with speaking("run", quiet=quiet, as_json=as_json) as speech:
        source = resources.find("pipelines", file)
        settings = config.load_pipeline(source, set_ or [])
        cluster = config.load_cluster(resources.find("clusters", on))
        stages = pipeline.select_stages(only, from_, until)
        folder = runs / settings.name
        run = pipeline.Run(settings, cluster, folder, source, keep_old, tuple(stages))
        rounds = rounds_of(run)
        if rounds is not None and as_json:
            raise ConfigError(
                "--json: of several rounds each is a run with a document of its own. Run them "
                "without it, then ask `show RUN --json`."
            )
        start(run, stages, dry_run=dry_run, wait=wait, trust=trust, speech=speech)
        if rounds is not None:
            do_later_rounds(rounds, stages, dry_run=dry_run, wait=wait, trust=trust, speech=speech)
