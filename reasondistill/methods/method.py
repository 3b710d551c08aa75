"""The base class of distillation methods, and their registry."""

from __future__ import annotations

import importlib
import pkgutil
import random
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar

from reasondistill.methods.settings import MethodSettings
from reasondistill.methods.step import Micro, Moment
from reasondistill.methods.texts import Text

if TYPE_CHECKING:
    import torch

S = TypeVar("S", bound=MethodSettings)


class Method(ABC, Generic[S]):
    """How a student learns: `texts` gives the texts of a step (by default the traces), `loss` the
    loss of a micro-batch.

    `needs_layers` and `needs_attentions` request the hidden states and attention of both models.
    `state` is saved in checkpoints and comes back through `restore`. The trainer adds the loss of a
    mixture's routers, for every method.
    """

    name: ClassVar[str]
    settings_class: ClassVar[type[MethodSettings]]
    needs_layers: bool = False
    needs_attentions: bool = False

    def __init__(self, settings: S, seed: int) -> None:
        self.settings = settings
        self.seed = seed

    @property
    def needs_teacher(self) -> bool:
        """Whether the teacher has to be in memory."""
        return self.settings.stored_tokens is None

    def texts(self, fixed: list[Text], moment: Moment) -> list[Text]:
        """The texts that a step trains on, given its traces."""
        return fixed

    @abstractmethod
    def loss(self, micro: Micro) -> torch.Tensor:
        """The micro-batch's part of the step's loss, a scalar."""

    def layers_now(self, progress: float) -> bool:
        """Whether layers (and attention, where needed) are used at this point of a training."""
        return self.needs_layers

    def why_not(self, *, held_out: int, micro_batch: int) -> str | None:
        """Why the method cannot train with so many held-out traces, or micro-batches of this size;
        None where it can.
        """
        return None

    def prepare(self, model: Any, teacher: Any) -> None:
        """Add modules that are trained beside the student. Raises ConfigError when student and
        teacher do not fit each other.
        """

    def strip(self, model: Any) -> None:
        """Remove from a model, or a copy of it, what `prepare` added."""

    def state(self) -> dict[str, Any]:
        """The state for a checkpoint, as JSON."""
        return {}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Continue from what `state` gave."""

    def coin(self, step: int, name: str = "") -> float:
        """A number in [0, 1) for this step: see `coin`."""
        return coin(self.seed, step, name)


METHODS: dict[str, type[Method[Any]]] = {}
M = TypeVar("M", bound=type[Method[Any]])


def register(method: M) -> M:
    """Register a method under its name. Raises ValueError for a name that is taken."""
    if METHODS.get(method.name, method) is not method:
        raise ValueError(f"there is a method {method.name!r} already")
    METHODS[method.name] = method
    return method


def read_methods(package: str, folders: Iterable[str]) -> None:
    """Import every module of a package, so that the methods in it register themselves."""
    for module in pkgutil.iter_modules(folders):
        importlib.import_module(f"{package}.{module.name}")


def coin(seed: int, step: int, name: str = "") -> float:
    """A number in [0, 1) that depends on seed and step alone: it is the same on all ranks
    and in a resumed training.
    """
    return random.Random(f"{seed} {step} {name}").random()
