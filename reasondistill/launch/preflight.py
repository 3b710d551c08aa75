"""What is looked at of a run by where it will be done."""

from __future__ import annotations

from reasondistill.checks import check
from reasondistill.launch.launcher import launcher_of
from reasondistill.pipeline import Run
from reasondistill.stages import students


@check(Run, "launcher", cost="files", remedy="reasondistill run FILE --on local")
def launcher_can_do_it(run: Run) -> None:
    """What the cluster file asks for the stages can be had of its launcher."""
    launcher_of(run).check(run.only or run.stages)


@check(
    Run,
    "training-processes",
    cost="files",
    remedy="reasondistill run FILE --set students.0.batch_size=32",
)
def training_processes(run: Run) -> None:
    """Batch sizes and strategy fit the processes that share a training."""
    nodes = launcher_of(run).resources("students").nodes
    processes = run.cluster.train.processes * nodes
    for student in run.pipeline.all_students():
        students.check_strategy(student, run.cluster.train, processes)
