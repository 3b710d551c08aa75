"""`ablate`: variants of one pipeline file, compared at equal tokens in the loss."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from reasondistill.checks import BEFORE_A_RUN, IN_A_DRY_RUN
from reasondistill.cli.console import (
    ClusterFile,
    DryRun,
    PipelineFile,
    RunsDir,
    Trust,
    app,
    block,
    coloured,
    named,
    out,
    plain_table,
    print_json,
    say,
)
from reasondistill.cli.progress import TerminalWatcher
from reasondistill.config import resources
from reasondistill.errors import Interrupted, ReasonDistillError
from reasondistill.runs.layout import FOLDERS, STAGES
from reasondistill.secrets import cleaned

if TYPE_CHECKING:
    from reasondistill.launch.launcher import Launcher
    from reasondistill.pipeline.ablating.equal_tokens import Budget, Training
    from reasondistill.pipeline.ablating.folders import Ablation, VariantRun, Work
    from reasondistill.pipeline.ablating.record import AblationRecord
    from reasondistill.pipeline.ablating.sharing import Part


@app.command(
    epilog="Examples:\n\n"
    "  reasondistill ablate demo --vary examples.k=1,4 --dry-run\n\n"
    '  reasondistill ablate mine.toml --vary \'examples.outcomes=["correct"],'
    '["correct", "wrong"],["wrong"]\'\n\n'
    "  reasondistill ablate mine.toml --vary problems.limit=4000,400,40 --tokens 2000000\n\n"
    "  reasondistill ablate mine.toml --vary students.1.method=sft,kd,topk_kd --seeds 5\n\n"
    "  reasondistill ablate mine.toml --vary examples.k=1,1       # what chance does"
)
def ablate(
    file: PipelineFile,
    vary: Annotated[
        list[str],
        typer.Option(
            "--vary",
            help="A key, as --set has it, and its values: examples.k=1,4. The others are compared "
            "with the first. Again for another key: every combination is a variant.",
        ),
    ],
    seeds: Annotated[
        int, typer.Option(min=1, max=1000, help="Trainings of each variant, with other seeds.")
    ] = 3,
    tokens: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=10**15,
            help="Tokens in the loss of each training; by default as many as the variant that has "
            "fewest by itself.",
        ),
    ] = None,
    student: Annotated[
        str | None,
        typer.Option(help="Which student of the file is compared, where it has several."),
    ] = None,
    name: Annotated[
        str | None, typer.Option(help="The folder below runs/; by default NAME-ablate.")
    ] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", help="Override one key in all variants: traces.n=8"),
    ] = None,
    on: ClusterFile = "local",
    dry_run: DryRun = False,
    wait: Annotated[
        bool, typer.Option("--wait", help="On a cluster: stay until all variants are compared.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    trust: Trust = False,
    runs: RunsDir = Path("runs"),
) -> None:
    """Compare variants of one pipeline file at equal tokens in the loss: which rule of selection,
    which method, how many traces? One sentence for each: helps, hurts, or cannot be told at this
    size, and what size it would take.

    What variants have in common is made once. Each is a run folder of its own, in which `show`,
    `walk`, `compare` and the report work as ever. The same command goes on where it was stopped. On
    Slurm it sends what can be sent; without --wait, give it again when that is done.
    """
    from reasondistill import config, pipeline
    from reasondistill.config.varying import variants_of
    from reasondistill.pipeline.ablating.folders import Ablation

    source = resources.find("pipelines", file)
    asked = variants_of(source, vary, overrides=set_ or [], count=seeds, student=student)
    cluster = config.load_cluster(resources.find("clusters", on))
    settings = config.load_pipeline(source, set_ or [])
    folder = runs / (name or f"{settings.name}-ablate")
    like = pipeline.Run(settings, cluster, folder, source)
    ablation = Ablation.of(asked, folder, like)
    was_quiet = out.quiet
    out.quiet = as_json
    try:
        working = Working(ablation, vary=tuple(vary), tokens=tokens, wait=wait, trust=trust)
        working.check(dry_run=dry_run)
        if dry_run:
            record = working.planned()
            print_plan(record, folder)
        else:
            record = working.to_the_end()
    finally:
        out.quiet = was_quiet
    if as_json:
        print_json(record.model_dump(mode="json"))


@dataclass
class Working:
    """An ablation at work: checks, then stage after stage of all variants, then the comparison."""

    ablation: Ablation
    vary: tuple[str, ...]
    tokens: int | None
    wait: bool
    trust: bool

    def check(self, *, dry_run: bool) -> None:
        """What `run` checks, for each variant; what is found of several is said once."""
        from reasondistill import doctor, pipeline
        from reasondistill.launch.launcher import launcher_of
        from reasondistill.pipeline.ablating.record import read_ablation

        before = read_ablation(self.ablation.folder)
        steps: dict[str, int | None] = {}
        if before is not None:
            steps = {variant.name: variant.steps for variant in before.variants}
        said: set[tuple[str, str]] = set()
        costs = IN_A_DRY_RUN if dry_run else BEFORE_A_RUN
        for one in self.ablation.runs:
            run = one.whole(steps.get(one.name))
            pipeline.require_trust(run, trust=self.trust)
            launcher_of(run).check(run.stages)
            for finding in doctor.check(run, costs):
                if (finding.check, finding.text) not in said:
                    said.add((finding.check, finding.text))
                    say(f"[yellow]{named(finding.check)}:[/] {block(finding.text)}")

    # -- what there is to do

    def planned(self) -> AblationRecord:
        """What the ablation is, as far as it is known now; nothing is made but tokenised rows."""
        trainings = self._countable()
        budget = None
        if len(trainings) == len(self.ablation.runs):
            budget = self._budget(trainings)
        return self._record(budget, trainings)

    def _countable(self) -> dict[str, Training]:
        """The trainings of the variants whose examples are there."""
        from reasondistill.pipeline.ablating.equal_tokens import training_of
        from reasondistill.pipeline.foreseeing import is_complete

        trainings: dict[str, Training] = {}
        for one in self.ablation.runs:
            before = [
                one.run.layout.student(student.name).path for student in one.variant.ancestors
            ]
            if all(map(is_complete, [one.run.stage("examples"), *before])):
                trainings[one.name] = training_of(one)
        return trainings

    def _budget(self, trainings: Mapping[str, Training]) -> Budget:
        """The budget that was asked for, else the one that students were trained with already.
        These keep their steps: more seeds have another mean, and would move them.
        """
        from reasondistill.pipeline.ablating.equal_tokens import equal_budget
        from reasondistill.pipeline.ablating.record import read_ablation

        before = read_ablation(self.ablation.folder)
        if before is None or self.tokens not in (None, before.tokens):
            return equal_budget(trainings, self.tokens)
        known = {variant.name: variant.steps for variant in before.variants}
        kept: dict[str, int] = {}
        is_trained = False
        for one in self.ablation.runs:
            students = map(one.run.layout.student, one.variant.members)
            if any(student.path.exists() for student in students):
                is_trained = True
                steps = known.get(one.name)
                if steps is not None:
                    kept[one.name] = steps
        if not is_trained:
            return equal_budget(trainings, self.tokens)
        return equal_budget(trainings, before.tokens, kept)

    def _record(self, budget: Budget | None, trainings: Mapping[str, Training]) -> AblationRecord:
        from reasondistill.pipeline.ablating.record import AblationRecord
        from reasondistill.pipeline.ablating.results import describe
        from reasondistill.pipeline.ablating.sharing import parts_of_all, who_makes

        parts = parts_of_all(self.ablation.runs)
        tokens = self.tokens
        if budget is not None:
            tokens = budget.tokens
        variants = [
            describe(
                one,
                budget,
                trainings.get(one.name),
                who_makes(one, self.ablation.before(one), parts),
            )
            for one in self.ablation.runs
        ]
        return AblationRecord(
            name=self.ablation.folder.name,
            file=self.ablation.runs[0].run.source.name,
            vary=tuple(map(cleaned, self.vary)),
            student=self.ablation.asked.student,
            tokens=tokens,
            state="planned",
            variants=tuple(variants),
        )

    # -- doing it

    def to_the_end(self) -> AblationRecord:
        """Do all that is left, compare, write and print it; only what is planned where jobs are
        still at work.
        """
        from reasondistill.launch.exclusive import only_one
        from reasondistill.launch.launcher import launcher_of
        from reasondistill.pipeline.ablating import sharing
        from reasondistill.pipeline.ablating.equal_tokens import training_of
        from reasondistill.pipeline.ablating.results import finished
        from reasondistill.pipeline.ablating.wording import variants_table, write_ablation
        from reasondistill.pipeline.foreseeing import foresee_run

        runs = self.ablation.runs
        with only_one(self.ablation.folder):
            early = {one.name: sharing.parts_before_students(one.run) for one in runs}
            if not self._all("before students", lambda one: one.making(), early):
                return self._record(None, {})
            starts = {
                one.name: sharing.parts_of_ancestors(one.run, one.variant.ancestors) for one in runs
            }
            if not self._all("what students go on from", lambda one: one.beginning(), starts):
                return self._record(None, {})
            trainings: dict[str, Training] = {}
            for one in runs:
                say(f"[dim]{named(one.name)}: counting its tokens[/]")
                trainings[one.name] = training_of(one)
            budget = self._budget(trainings)
            for one in runs:  # students of another budget are refused before anything is written
                foresee_run(one.whole(budget.steps[one.name]), ["students"])
            record = self._record(budget, trainings)
            write_ablation(self.ablation.folder, record)
            out.print(coloured(variants_table(record).without_blanks()))
            late = {
                one.name: sharing.parts_of_evals(one.run, one.variant.ancestors) for one in runs
            }

            def training(one: VariantRun) -> Work:
                shares = launcher_of(one.run).shares_engine_process()
                return one.training(budget.steps[one.name], share_engine_process=shares)

            if not self._all("students and evals", training, late):
                return record
            record = finished(self.ablation, record)
            write_ablation(self.ablation.folder, record)
        print_ablation(record, self.ablation.folder)
        return record

    def _all(
        self,
        what: str,
        work_of: Callable[[VariantRun], Work],
        parts: Mapping[str, Sequence[Part]],
    ) -> bool:
        """Do one thing of all variants, each after those from which it takes something over; False
        where jobs are left that nobody waits for.

        Where one fails, the others go on, but for those that want something of it. Then raises the
        first error.
        """
        left = list(self.ablation.runs)
        failed: dict[str, ReasonDistillError] = {}
        while left:
            sent: list[Launcher] = []
            for one in tuple(left):
                if one.name in failed:
                    continue
                names = {other.name for other in left}
                try:
                    state, launcher = self._one(what, one, work_of(one), parts, names)
                except Interrupted:
                    raise
                except ReasonDistillError as error:
                    say(f"[red]{named(one.name)} has failed ({what}).[/]")
                    failed[one.name] = error
                    continue
                if state == "done":
                    left.remove(one)
                elif state == "sent" and launcher is not None:
                    sent.append(launcher)
            if not left:
                break
            if failed and not (sent and self.wait):
                _tell_failed(failed, [one.name for one in left], len(self.ablation.runs))
                raise next(iter(failed.values()))
            if not self.wait:
                waiting = ", ".join(one.name for one in left)
                first = shlex.quote(str(sent[0].run.folder))
                say(
                    f"At work, or waiting: {named(waiting)} ({what}). `reasondistill status "
                    f"{named(first)}` shows more. Give the same command again when "
                    "these jobs are over, or with --wait now."
                )
                return False
            for launcher in sent:
                launcher.follow(TerminalWatcher(launcher.run))
        return True

    def _one(
        self,
        what: str,
        one: VariantRun,
        work: Work,
        parts: Mapping[str, Sequence[Part]],
        at_work: Collection[str],
    ) -> tuple[str, Launcher | None]:
        """Take over, then do, what is left of one variant: `done`, `waits` for one that is
        `at_work`, or `sent` to a launcher that goes on by itself.
        """
        from reasondistill import pipeline
        from reasondistill.launch.launcher import launcher_of
        from reasondistill.pipeline.ablating import sharing
        from reasondistill.pipeline.foreseeing import foresee_run

        taken = sharing.take_over(one, tuple(self.ablation.before(one)), parts)
        if taken.waits_for & set(at_work):
            return "waits", None
        stages = {task.stage for task in work.tasks}
        if taken.is_new and "evals" not in stages:
            sharing.settle_what_stands(work.run, foresee_run(work.run, stages))
        left = pipeline.remaining(work.run, work.tasks)
        if not left:
            return "done", None
        pipeline.require_trust(work.run, trust=self.trust)
        launcher = launcher_of(work.run)
        if launcher.is_detached and launcher.unfinished():
            return "sent", launcher
        say(f"[bold]{named(one.name)}[/] · {named(one.variant.label)} · {what}")
        launcher.start(left, TerminalWatcher(work.run, left))
        if launcher.is_detached:
            return "sent", launcher
        return "done", None


# ---- printing ------------------------------------------------------------------------------------


def _tell_failed(failed: Collection[str], left: Collection[str], of: int) -> None:
    """Which variants failed, how far the others are, and the ways out."""
    text = f"Failed: {', '.join(failed)}."
    waiting = [name for name in left if name not in failed]
    if waiting:
        text += f" Wait for them: {', '.join(waiting)}."
    if of > len(left):
        text += " The others have done this."
    say(
        f"[yellow]{named(text)}[/] Nothing is compared. The same command goes on; without these "
        "values in --vary it compares the rest."
    )


def print_plan(record: AblationRecord, folder: Path) -> None:
    """Which variants, what of them is made and what is taken over, tokens as far as they are
    known.
    """
    from reasondistill.pipeline.ablating.sharing import made_by
    from reasondistill.pipeline.ablating.wording import headline, variants_table

    say(f"[bold]{named(folder)}[/] (nothing is done: --dry-run)")
    say(named(headline(record)))
    table = plain_table("variant", "folder", "seeds", "makes", "takes over")
    for variant in record.variants:
        taken = [f"{', '.join(what)} of {whose}" for whose, what in made_by(variant.taken).items()]
        own = [stage for stage in STAGES if FOLDERS[stage] not in variant.taken]
        cells = (variant.label, variant.name, seeds_text(variant.seeds), ", ".join(own))
        table.add_row(*map(named, cells), named("; ".join(taken)))
    out.print(table)
    if any(variant.loss_tokens for variant in record.variants):
        out.print(coloured(variants_table(record).without_blanks()))
    elif record.tokens is None:
        say(
            "Tokens in the loss: as many as the variant has that has fewest by itself, known when "
            "the examples of all are there. --tokens sets them."
        )


def seeds_text(seeds: Iterable[int]) -> str:
    """`0, 1, 2`."""
    return ", ".join(map(str, seeds))


def print_ablation(record: AblationRecord, folder: Path) -> None:
    """A sentence for each rule, the two tables, what they are to be read with, and where all
    stands.
    """
    from reasondistill.pipeline.ablating.record import ABLATION, ABLATION_MARKDOWN
    from reasondistill.pipeline.ablating.wording import rules_table, variants_table

    out.print(coloured(variants_table(record).without_blanks()))
    out.print(coloured(rules_table(record.rules).without_blanks()))
    for row in record.rules:
        say(named(row.sentence))
    for note in record.notes:
        say(f"[dim]{named(note)}[/]")
    for name in (ABLATION_MARKDOWN, ABLATION):
        say(f"{name}: file://{named((folder / name).resolve())}")
