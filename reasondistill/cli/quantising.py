"""`quantise`: a smaller copy of a finished model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from reasondistill.cli.console import app, log_lines, named, say
from reasondistill.cli.forecasting import bytes_words
from reasondistill.errors import MissingDependencyError


@app.command(
    epilog="Examples:\n\n  reasondistill quantise runs/demo/5-students/distilled/model "
    "copies/distilled-int8\n\n"
    "  reasondistill eval student=runs/demo/5-students/distilled/model "
    "int8=copies/distilled-int8 --benchmarks gsm_symbolic_12 --against student "
    "--set evals.latency=20"
)
def quantise(
    model: Annotated[Path, typer.Argument(help="The folder of a model: a student's, or another.")],
    folder: Annotated[Path, typer.Argument(help="Where the copy goes: a new folder.")],
    trust_remote_code: Annotated[
        bool,
        typer.Option("--trust-remote-code", help="Run the Python code in the model's folder."),
    ] = False,
) -> None:
    """Write an int8 copy of a model that vLLM serves (compressed-tensors, W8A8, nothing
    calibrated), and compare it with the model token by token. Measure it beside the student with
    `eval --against`.
    """
    try:
        from reasondistill.stages.students.int8 import make_int8_copy
    except ImportError as error:
        raise MissingDependencyError(error.name or "transformers", "train") from error

    log_lines()
    copy = make_int8_copy(model, folder, trust_remote_code=trust_remote_code)
    say(
        f"{named(folder)}: {bytes_words(copy.weight_bytes)} of weights, the student has "
        f"{bytes_words(copy.source_bytes)} · {copy.layers} layers in int8"
    )
    say(
        f"by transformers: {copy.kl:.4f} nats per token from the student, the same most likely "
        f"token after {100 * copy.top1:.1f} % of {copy.tokens}"
    )
    say(
        "What that costs in answers an eval says, in the engine that will serve it:\n"
        f"reasondistill eval student={named(model)} int8={named(folder)} --benchmarks NAME "
        "--against student --set evals.latency=20"
    )
