"""LoRA adapters among the models that are asked, merged into their bases before one of them is.

    Serving(run.cluster, merging_opener(stop))      # merges what it opens, where it is not yet

What is merged lies in the user's cache, by what adapter and base hold (models/adapters.py): other
runs, workers and resumes find it there.
"""

from __future__ import annotations

import json
import logging
import os
import subprocess
from collections.abc import Sequence
from importlib.util import find_spec
from typing import TYPE_CHECKING

from reasondistill.config import Cluster, ModelSettings
from reasondistill.errors import ConfigError, MissingDependencyError, StageError
from reasondistill.foreign_text import shown_line
from reasondistill.interpreter import safe_environment, safe_python
from reasondistill.models.adapters import SAID, adapter_of
from reasondistill.records import Problem
from reasondistill.runs.store import StopSignal

if TYPE_CHECKING:
    from reasondistill.models.samplers.base import Sampler
    from reasondistill.models.samplers.opening import OpenSampler

log = logging.getLogger(__name__)

_MODULE = "reasondistill.stages.students.merging"
# What the process ends with where it says why.
_TOLD = 3


def merging_opener(stop: StopSignal) -> OpenSampler:
    """Opens samplers as `open_sampler` does; an adapter is merged with its base before."""
    from reasondistill.models.samplers.opening import open_sampler

    def opened(model: ModelSettings, cluster: Cluster, problems: Sequence[Problem]) -> Sampler:
        merge_adapter(model, stop)
        return open_sampler(model, cluster, problems)

    return opened


def merge_adapter(model: ModelSettings, stop: StopSignal) -> None:
    """Merge a model that is an adapter and is not merged yet; workers that want the same wait for
    the first one. A first signal ends it, and nothing is left of it but a temporary folder, which
    the next one removes.

    Raises ConfigError for what cannot be merged, StageError where the process died.
    """
    adapter = adapter_of(model)
    if adapter is None or adapter.is_merged:
        return
    if find_spec("peft") is None:
        raise MissingDependencyError("peft", "train")
    log.info("%s: an adapter; it is merged with %s first", model.model, adapter.base)
    keys = {"model", "revision", "base", "trust_remote_code"}
    values = model.model_dump(mode="json", include=keys) | {"identity": adapter.identity}
    with stop.at_once():
        # Memory goes back to the machine with the process, before an engine asks for it.
        done = subprocess.run(
            [*safe_python(), "-m", _MODULE],
            input=json.dumps(values).encode(),
            capture_output=True,
            env=safe_environment(os.environ),
            check=False,
        )
    told = done.stdout.decode("utf-8", "replace").strip()
    if done.returncode == _TOLD and told:
        raise ConfigError(told)
    lines = done.stderr.decode("utf-8", "replace").strip().splitlines()
    if done.returncode != 0 or not adapter.is_merged:
        last = shown_line(lines[-1] if lines else "it said nothing")
        raise StageError(
            f"model {model.model}: its merging with {adapter.base} ended with status "
            f"{done.returncode} ({last}). -9: the machine's memory was not enough."
        )
    for line in lines:
        if line.startswith(SAID):
            log.info("%s", shown_line(line.removeprefix(SAID)))
