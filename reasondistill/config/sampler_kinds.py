"""What a sampler can do, and which module the `sampler` of a file names.

A sampler is one module, which holds a `SAMPLER`: its capabilities and, in a subclass, how it is
opened (`reasondistill.models.samplers.SamplerKind`). `sampler = "vllm"` is the module
`reasondistill/models/samplers/vllm.py`. `sampler = "my_lab.parrot:PARROT"` is the object `PARROT`
of a module of your own, which Python must be able to import wherever a stage runs: it is installed,
or PYTHONPATH names its folder. The working directory is not looked into.

The module is imported when its name is first met; it imports heavy packages inside functions only.
"""

from __future__ import annotations

import importlib
import pkgutil
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from typing import Annotated, Any

from pydantic import AfterValidator

from reasondistill.errors import ConfigError
from reasondistill.nearest import nearest

SAMPLERS = "reasondistill.models.samplers"
DEFAULT_SAMPLER = "vllm"


@dataclass(frozen=True, kw_only=True)
class Capabilities:
    """What a sampler does and needs. Other code looks at these, never at the sampler's name.

    `has_weights`: `model` is a hub id or folder whose weights this machine can read.
    `gives_logprobs`: it gives log-probabilities, for its samples and for stored texts.
    `goes_on`: it goes on in the middle of a sample that was begun, from its tokens.
    `stops_loops`: it ends a sample that goes round in circles, where `Sampling.loops` says so.
    `ends_thinking`: it closes a block of reasoning where `Sampling.thinking_budget` says so.
    `is_engine`: it computes on this machine, with `[vllm]` of the cluster file.
    `answers_anything`: it answers any prompt, so that it can be measured as well.
    `sends_requests`: it asks a server; `request` and `omit` shape what is sent.
    `reads_file`: `model` is the path of a file of texts.
    `reads_problems`: it holds the problems that it was opened with, and cannot serve others.
    `reads_solutions`: its samples are the problems' own reference solutions.
    `reads_dataset`: `model` is a data set; its samples are the traces that stand there.
    `package`: what must be installed for it, by the name that is imported; `extra` brings it.
    """

    has_weights: bool = False
    gives_logprobs: bool = False
    goes_on: bool = False
    stops_loops: bool = False
    ends_thinking: bool = False
    is_engine: bool = False
    answers_anything: bool = False
    sends_requests: bool = False
    reads_file: bool = False
    reads_problems: bool = False
    reads_solutions: bool = False
    reads_dataset: bool = False
    package: str = ""
    extra: str = ""


@cache
def capabilities_of(name: str) -> Capabilities:
    """What the sampler of this name can do. Raises ConfigError when there is none."""
    if ":" in name:
        return _sampler_of_others(name)
    sampler = _sampler_in(name)
    if sampler is None:
        raise ConfigError(f"sampler = {name!r}: unknown. {nearest(name, sampler_names())}")
    return sampler


def sampler_names() -> list[str]:
    """The samplers that come with the package, in alphabetical order."""
    folder = importlib.import_module(SAMPLERS)
    modules = [module.name for module in pkgutil.iter_modules(folder.__path__)]
    return sorted(name for name in modules if _sampler_in(name) is not None)


def _sampler_in(name: str) -> Capabilities | None:
    """The `SAMPLER` of a module of the package; None without such a module or `SAMPLER`."""
    if not name.isidentifier() or find_spec(f"{SAMPLERS}.{name}") is None:
        return None
    module = importlib.import_module(f"{SAMPLERS}.{name}")
    return getattr(module, "SAMPLER", None)


def _sampler_of_others(name: str) -> Capabilities:
    """`my_lab.parrot:PARROT` → that object. Raises ConfigError."""
    module_name, _, attribute = name.partition(":")
    try:
        module = importlib.import_module(module_name)
    except (ImportError, ValueError, TypeError) as error:
        raise ConfigError(
            f"sampler = {name!r}: the module {module_name!r} cannot be imported ({error}). "
            "Install it, or put its folder on PYTHONPATH; it is not looked for in the working "
            "directory."
        ) from None
    sampler: Any = getattr(module, attribute, None)
    if not isinstance(sampler, Capabilities):
        raise ConfigError(
            f"sampler = {name!r}: {module_name} has no sampler {attribute!r}. "
            f"Define `{attribute or 'SAMPLER'} = SamplerKind(…)` (reasondistill.models.samplers)."
        )
    return sampler


def _is_known(name: str) -> str:
    try:
        capabilities_of(name)
    except ConfigError as error:
        raise ValueError(str(error).replace("sampler = ", "sampler: ", 1)) from None
    return name


SamplerName = Annotated[str, AfterValidator(_is_known)]
