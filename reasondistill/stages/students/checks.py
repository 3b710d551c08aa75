"""What is refused before any training starts, since it would fail after hours."""

from __future__ import annotations

from pathlib import Path

from reasondistill.config import StudentSettings
from reasondistill.errors import ConfigError
from reasondistill.models.weights import model_folder, read_config
from reasondistill.stages.students.identity import base_identity


def check_settings(student: StudentSettings) -> None:
    """Refuse, before anything starts, what would fail after hours. Raises ConfigError."""
    if student.starts_from is None:  # else its base is still to be made
        base_identity(student)
    where = f"[students] {student.name}"
    if student.chat_template is not None and not Path(student.chat_template).is_file():
        raise ConfigError(f"{where} chat_template = {student.chat_template!r}: no such file.")
    if student.optimizer == "muon" and student.lora is not None:
        raise ConfigError(f"{where} optimizer = 'muon' is for full training; LoRA uses adamw.")
    if student.distils():
        why_not = student.method_settings().why_not(
            with_lora=student.lora is not None, with_packing=student.packing
        )
        if why_not is not None:
            raise ConfigError(f"{where} {why_not}")
    if student.shrink is not None:
        base_folder = model_folder(student.base or "")
        if base_folder is not None:
            student.shrink.check(read_config(base_folder), where)
    shape = student.architecture
    if shape is not None and shape.hidden_size % shape.num_attention_heads:
        raise ConfigError(
            f"{where} hidden_size = {shape.hidden_size} is no multiple of num_attention_heads."
        )
