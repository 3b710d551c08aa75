"""`pack` and `unpack`: a run without its weights, for a repository, and the way back."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer

from reasondistill.cli.console import RunName, RunsDir, app, named, run_folder, say
from reasondistill.cli.forecasting import bytes_words
from reasondistill.cli.speaking import command_line, print_next
from reasondistill.errors import StageError
from reasondistill.runs.layout import WEIGHTS_LEFT_OUT, RunFolder
from reasondistill.tables import counted


@app.command(
    epilog="Example:\n\n  reasondistill pack demo eval/runs/demo\n\n"
    "  reasondistill compare eval/runs/demo/distilled eval/runs/demo/base"
)
def pack(
    name: RunName,
    folder: Annotated[
        Path, typer.Argument(help="Where to: a new folder, or one in which it is packed.")
    ],
    runs: RunsDir = Path("runs"),
    topk: Annotated[
        bool, typer.Option("--topk", help="Also the cache of the teacher's distributions.")
    ] = False,
) -> None:
    """Write a run's records, verdicts, samples and scores into a folder, compressed: no weights, no
    checkpoints, no logs, no path of this machine.

    Given again it writes what is new. `compare`, `show`, `walk`, `diff` and `matrix` read the
    folder as it is; `unpack` makes a run of it that goes on.
    """
    from reasondistill.runs.packing import pack_run
    from reasondistill.runs.remote import is_url

    if is_url(name):
        raise StageError(f"{name}: a run at a URL; its records lie there already.")
    run = RunFolder(run_folder(name, runs))
    packed = pack_run(run, folder, topk=topk, weights=weights_of(run))
    written = counted(packed.new, "file")
    same = counted(packed.same, "is as it was", "are as they were")
    line = f"{named(folder)}: {written} written, {same}"
    if packed.gone:
        line += f", {packed.gone:,} removed"
    say(f"{line} · {bytes_words(packed.stored_bytes)} in all")
    print_next([command_line("show", str(folder)), command_line("unpack", str(folder))])


@app.command(
    epilog="Example:\n\n  reasondistill unpack eval/runs/real-traces real-smollm2\n\n"
    "  reasondistill run real_smollm2 --on real_cpu"
)
def unpack(
    folder: Annotated[Path, typer.Argument(help="The folder of a packed run.")],
    name: Annotated[
        str | None, typer.Argument(help="What the run is called here; by default as it was.")
    ] = None,
    runs: RunsDir = Path("runs"),
) -> None:
    """Make a run's folder of a packed run. A pipeline file of that name with the same problems and
    traces goes on from there, sample by sample.
    """
    from reasondistill.runs.packing import read_pack
    from reasondistill.runs.unpacking import require_packed, unpack_run

    require_packed(folder)
    called = name or read_pack(folder).name
    target = runs / called
    if target.parent != runs or called in (".", ".."):
        raise StageError(f"{called}: is no name of a run.")
    pack = unpack_run(folder, target)
    files = counted(len(pack.files), "file")
    say(f"{named(target)}: {files} of {named(pack.name)}, each as it was packed.")
    setting = named(shlex.quote(f"name={called}"))
    say(
        f"`reasondistill run FILE --set {setting}` goes on, with the pipeline file that "
        "it was made from. Models are not in a pack: they are looked for under their names."
    )
    print_next([command_line("show", called, runs=runs)])


def weights_of(run: RunFolder) -> dict[str, str]:
    """Which weights the finished students of a run have, by name."""
    from reasondistill.models.weights import model_identity
    from reasondistill.runs.store import read_manifest

    weights: dict[str, str] = {}
    for student in run.students():
        manifest = read_manifest(student.path)
        is_finished = manifest is not None and manifest.status == "complete"
        is_known = student.model.exists() or (student.path / WEIGHTS_LEFT_OUT).exists()
        if is_finished and is_known:
            weights[student.path.name] = model_identity(str(student.model))
    return weights
