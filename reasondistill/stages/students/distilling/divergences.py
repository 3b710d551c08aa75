"""The methods whose loss is a divergence of token distributions: kd, gkd, reverse_kl, skew_kl,
distillm2, topk_kd.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

import torch

from reasondistill.config import Distillm2, Gkd, ReverseKl, SkewKl, TopkKd
from reasondistill.losses import Divergence, LiveTeacher, TopKTeacher
from reasondistill.stages.students.distilling.lessons import Lesson, Micro, Moment, coin
from reasondistill.stages.students.distilling.texts import Text, as_json, from_json

log = logging.getLogger(__name__)


class KdLesson(Lesson):
    """Hinton et al. 2015: alpha·T²·KL(p_T‖q_T) + (1−alpha)·CE on the traces."""

    def __init__(self, alpha: float, temperature: float = 1.0) -> None:
        self.alpha, self.divergence = alpha, Divergence("forward_kl", temperature=temperature)

    def loss(self, micro: Micro) -> torch.Tensor:
        terms: dict[str, Any] = {}
        if self.alpha > 0:
            terms |= {
                "teacher": self.teacher(micro),
                "divergence": self.divergence,
                "divergence_weights": self.alpha * micro.weights,
            }
        if self.alpha < 1:
            terms |= {
                "labels": micro.labels,
                "cross_entropy_weights": (1 - self.alpha) * micro.weights,
            }
        return micro.losses(**terms).total

    def teacher(self, micro: Micro) -> LiveTeacher | TopKTeacher:
        return micro.teacher


class GkdLesson(Lesson):
    """Agarwal et al. 2024, algorithm 1: a coin per step says whether the traces are trained on or
    what the student writes.
    """

    def __init__(self, settings: Gkd | ReverseKl, seed: int) -> None:
        self.settings, self.seed = settings, seed
        beta = settings.beta if isinstance(settings, Gkd) else 1.0
        self.divergence = Divergence("jsd", beta=beta, temperature=settings.temperature)

    def texts(self, fixed: list[Text], moment: Moment) -> list[Text]:
        if coin(self.seed, moment.step) < self.settings.on_policy:
            return moment.write(fixed, self.settings)
        return fixed

    def loss(self, micro: Micro) -> torch.Tensor:
        return micro.losses(
            teacher=micro.teacher, divergence=self.divergence, divergence_weights=micro.weights
        ).total


class SkewKlLesson(Lesson):
    """DistiLLM (Ko et al. 2024), section 3: skewed divergence; adaptive off-policy share φ with a
    replay buffer.

    With progress t and u uniform: u < φ·(1 − t), or u < φ while the buffer is not full, writes new
    text; else u < φ draws from the buffer; else the traces.
    """

    def __init__(self, settings: SkewKl, seed: int) -> None:
        self.settings, self.seed = settings, seed
        self.divergence = Divergence(
            "skew_reverse_kl" if settings.reverse else "skew_kl", alpha=settings.alpha
        )
        self.share = settings.start_share
        self.last_loss: float | None = None
        self.checked = 0
        self.buffer: deque[Text] = deque(maxlen=settings.capacity)

    def texts(self, fixed: list[Text], moment: Moment) -> list[Text]:
        self._check(moment)
        tossed = coin(self.seed, moment.step)
        if tossed >= self.share:
            return fixed
        if tossed < self.share * (1 - moment.progress) or len(self.buffer) < self.settings.capacity:
            written = moment.write(fixed, self.settings)
            self.buffer.extend(written)
            return written
        order = sorted(
            range(len(self.buffer)),
            key=lambda place: coin(self.seed, moment.step, f"replay {place}"),
        )
        return [self.buffer[place] for place in order[: len(fixed)]]

    def _check(self, moment: Moment) -> None:
        """At each check: a held-out loss that rose by `tolerance` since the last change raises the
        share.
        """
        due = int(moment.progress * self.settings.checks)
        if self.share >= 1 or (self.last_loss is not None and due <= self.checked):
            return
        self.checked = due
        now = moment.held_out_loss()
        if self.last_loss is None:
            self.last_loss = now
        elif now >= self.last_loss + self.settings.tolerance:
            self.share, self.last_loss = min(1.0, self.share + 0.1), now
            log.info(
                "step %d · held-out loss %.4f has risen: %.0f %% of the steps use student text",
                moment.step,
                now,
                100 * self.share,
            )

    def loss(self, micro: Micro) -> torch.Tensor:
        return micro.losses(
            teacher=micro.teacher, divergence=self.divergence, divergence_weights=micro.weights
        ).total

    def state(self) -> dict[str, Any]:
        buffer = [as_json(text) for text in self.buffer]
        return {
            "share": self.share,
            "last_loss": self.last_loss,
            "checked": self.checked,
            "buffer": buffer,
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        self.share, self.last_loss, self.checked = (
            state["share"],
            state["last_loss"],
            state["checked"],
        )
        self.buffer.clear()
        self.buffer.extend(from_json(text) for text in state["buffer"])


class Distillm2Lesson(Lesson):
    """DistiLLM-2 (Ko et al. 2025), eq. 7: skew KL where the teacher wrote, skew reverse KL where
    the student did.

    The student answers every prompt at the start of each epoch, with the weights it has then.
    """

    def __init__(self, settings: Distillm2) -> None:
        self.settings = settings
        self.on_teacher = Divergence("skew_kl", alpha=settings.alpha)
        self.on_student = Divergence("skew_reverse_kl", alpha=settings.alpha)
        self.epoch, self.answers = -1, dict[int, Text]()

    def texts(self, fixed: list[Text], moment: Moment) -> list[Text]:
        if moment.epoch != self.epoch:
            self.epoch = moment.epoch
            self.answers = {
                text.row: text
                for text in moment.shared(lambda own: moment.write(own, self.settings))
            }
        return [*fixed, *(self.answers[text.row] for text in fixed)]

    def loss(self, micro: Micro) -> torch.Tensor:
        ours = micro.values("by_student").float()
        first = micro.losses(
            teacher=micro.teacher,
            divergence=self.on_teacher,
            divergence_weights=micro.weights * (1 - ours),
        )
        second = micro.losses(
            teacher=micro.teacher,
            divergence=self.on_student,
            divergence_weights=micro.weights * ours,
        )
        return first.total + second.total

    def state(self) -> dict[str, Any]:
        return {"epoch": self.epoch, "answers": [as_json(text) for text in self.answers.values()]}

    def restore(self, state: Mapping[str, Any]) -> None:
        self.epoch, self.answers = (
            state["epoch"],
            {text["row"]: from_json(text) for text in state["answers"]},
        )


class TopkLesson(KdLesson):
    """The same from stored log-probabilities with one bucket for the rest. `stored(row)`: ids and
    values (tokens, K).
    """

    needs_teacher = False

    def __init__(
        self, settings: TopkKd, stored: Callable[[int], tuple[torch.Tensor, torch.Tensor]]
    ) -> None:
        super().__init__(settings.alpha)
        self.stored = stored

    def teacher(self, micro: Micro) -> TopKTeacher:
        """The stored values of every kept position, in their order."""
        rows, places, device = (
            micro.values("row").tolist(),
            micro.values("place"),
            micro.hidden.device,
        )
        found = {row: self.stored(row) for row in dict.fromkeys(rows)}
        start, starts = 0, dict[int, int]()
        for row, (ids, _) in found.items():
            starts[row] = start
            start += len(ids)
        index = torch.tensor([starts[row] for row in rows]) + places.cpu()
        ids = torch.cat([ids for ids, _ in found.values()])[index]
        log_probs = torch.cat([values for _, values in found.values()])[index]
        return TopKTeacher(ids.to(device), log_probs.to(device))
