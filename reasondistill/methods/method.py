"""What a distillation method is, and the registry of them all."""

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
    """How a student learns: `texts` says what a step trains on (by default the traces), `loss` what
    a micro-batch costs.

    `needs_layers` and `needs_attentions` ask for what both models computed inside. What `state`
    gives survives a checkpoint and comes back through `restore`. The loss of a mixture's routers is
    added by the trainer, to every method's alike.
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
        """What a step trains on, of the traces that it would train on."""
        return fixed

    @abstractmethod
    def loss(self, micro: Micro) -> torch.Tensor:
        """The micro-batch's part of the step's loss, a scalar."""

    def layers_now(self, progress: float) -> bool:
        """Whether layers (and attention, where needed) are looked at in this part of a training."""
        return self.needs_layers

    def why_not(self, *, held_out: int, micro_batch: int) -> str | None:
        """Why it cannot train with so many held-out traces, or micro-batches of this size; None
        where it can.
        """
        return None

    def prepare(self, model: Any, teacher: Any) -> None:
        """Add what is trained beside the student. Raises ConfigError when student and teacher do
        not fit each other.
        """

    def strip(self, model: Any) -> None:
        """Take off a model, or a copy of it, what `prepare` added."""

    def state(self) -> dict[str, Any]:
        """What must survive a checkpoint, as JSON."""
        return {}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state` gave."""

    def coin(self, step: int, name: str = "") -> float:
        """A number in [0, 1) for this step: see `coin`."""
        return coin(self.seed, step, name)


METHODS: dict[str, type[Method[Any]]] = {}
M = TypeVar("M", bound=type[Method[Any]])


def register(method: M) -> M:
    """Make a method known by its name. Raises ValueError for a name that is taken."""
    if METHODS.get(method.name, method) is not method:
        raise ValueError(f"there is a method {method.name!r} already")
    METHODS[method.name] = method
    return method


def read_methods(package: str, folders: Iterable[str]) -> None:
    """Import every module of a package, so that the methods in it register themselves."""
    for module in pkgutil.iter_modules(folders):
        importlib.import_module(f"{package}.{module.name}")


def coin(seed: int, step: int, name: str = "") -> float:
    """A number in [0, 1) that depends on seed and step alone: all ranks toss the same, and a
    resumed training tosses it again.
    """
    return random.Random(f"{seed} {step} {name}").random()
