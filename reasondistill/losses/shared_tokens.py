"""The tokens that a student and a teacher of one family both have, where each has others too.

Sizes and generations of a family agree in every ordinary token and differ in a few special ones.
Of those neither can tell the other anything: a divergence is taken of both distributions over the
shared tokens alone, that is with the other logits removed and the rest normalised again.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

# A teacher that gives more than half of its probability to tokens that only it has wants to say
# something there that the student cannot: what is left of its distribution is noise.
_LEAST_SHARED = math.log(0.5)


@dataclass(frozen=True)
class SharedTokens:
    """The j-th shared token has the id `student[j]` in the student's vocabulary and `teacher[j]` in
    the teacher's: (shared,) int64 each, `student` rising.

    `teacher_vocabulary` counts all tokens of the teacher.
    """

    student: Tensor
    teacher: Tensor
    teacher_vocabulary: int

    def to(self, device: torch.device) -> SharedTokens:
        """The same on a device."""
        return SharedTokens(
            self.student.to(device), self.teacher.to(device), self.teacher_vocabulary
        )

    def places(self, ids: Tensor) -> Tensor:
        """Where each id of the student stands among the shared tokens; −1 for what the teacher has
        not, and for −1.
        """
        ids = ids.long()
        places = torch.searchsorted(self.student, ids).clamp_(max=len(self.student) - 1)
        return torch.where(self.student[places] == ids, places, -1)

    def of_student(self, logits: Tensor) -> Tensor:
        """The shared columns of a student's logits (N, vocabulary): (N, shared)."""
        return logits.index_select(1, self.student)

    def of_teacher(self, logits: Tensor) -> Tensor:
        """The shared columns of a teacher's logits (N, teacher_vocabulary): (N, shared)."""
        return logits.index_select(1, self.teacher)

    def for_student(self, teacher_logits: Tensor, vocabulary: int) -> Tensor:
        """A teacher's logits (N, ≥ teacher_vocabulary) under the student's ids, (N, vocabulary):
        −∞ for the tokens that it has not.
        """
        spread = teacher_logits.new_full((len(teacher_logits), vocabulary), -torch.inf)
        return spread.index_copy_(1, self.student, self.of_teacher(teacher_logits))

    def spread(self, gradient: Tensor, like: Tensor) -> Tensor:
        """A derivative with respect to `of_student(like)`, with respect to `like`: zero for the
        tokens that the teacher has not.
        """
        return torch.zeros_like(like).index_copy_(1, self.student, gradient)

    def is_said(self, teacher_logits: Tensor) -> Tensor:
        """(N,): where the teacher gives at least half of its probability, at temperature 1, to
        shared tokens.
        """
        of_shared = self.of_teacher(teacher_logits).logsumexp(-1)
        return of_shared - teacher_logits.logsumexp(-1) >= _LEAST_SHARED
