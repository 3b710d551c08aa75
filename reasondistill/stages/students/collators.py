"""What makes a batch of a student's rows, as its trainer makes its own. Imports trl; imported
late.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from trl.trainer.sft_trainer import DataCollatorForLanguageModeling

from reasondistill.config import StudentSettings
from reasondistill.stages.students.distilling.batches import collated


def collator_of(student: StudentSettings, tokenizer: Any) -> Any:
    """TRL's for a student that learns from text, ours for one that has a teacher."""
    if student.distils():
        return partial(collated, pad=tokenizer.pad_token_id, flat=student.packing)
    return DataCollatorForLanguageModeling(
        pad_token_id=tokenizer.pad_token_id, padding_free=student.packing
    )
