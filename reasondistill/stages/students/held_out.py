"""Perplexity and KL(teacher‖student) on rows that nobody trained on, without a tensor of all tokens
× vocabulary. Imported late.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM

from reasondistill.config import StudentSettings
from reasondistill.losses.divergences import Divergence
from reasondistill.losses.fused import token_losses
from reasondistill.losses.shared_tokens import SharedTokens
from reasondistill.losses.teachers import LiveTeacher
from reasondistill.models.attention import attention_options
from reasondistill.models.folders import require_sound_weights
from reasondistill.models.loading import loading
from reasondistill.records import Example, Shrunk
from reasondistill.stages.students import bases, shrinking
from reasondistill.stages.students.heads import check_head, head_of
from reasondistill.stages.students.hidden import states
from reasondistill.stages.students.tokens import IGNORE, Row, tokenise_all


@dataclass(frozen=True)
class HeldOut:
    """Means over `tokens` labelled tokens: exp of the cross-entropy, and nats of
    KL(teacher‖student); None without a teacher.
    """

    perplexity: float
    kl: float | None
    tokens: int


@torch.no_grad()
def held_out(
    model: Any,
    rows: Sequence[Row],
    *,
    teacher: Any = None,
    vocabulary: int | None = None,
    shared: SharedTokens | None = None,
) -> HeldOut:
    """How well a model predicts the labels of rows, and how far it is from a teacher there; every
    labelled token weighs the same.

    Both models read the same ids; with `shared`, KL is over the tokens and positions of which the
    teacher can tell. All of it is over the first `vocabulary` tokens (None: over the smaller of
    both vocabularies). Works through PEFT and other wrappers that have
    `get_output_embeddings`. Raises ValueError when no token is labelled.
    """
    loss = 0.0
    kl = 0.0
    tokens = 0
    compared_tokens = 0
    compared = [model]
    if teacher is not None and shared is None:
        compared.append(teacher)
    sizes = [len(head_of(each).weight) for each in compared]
    if vocabulary is not None:
        sizes.append(vocabulary)
    for row in rows:
        labels = torch.tensor(row.labels[1:], device=model.device)
        learned = labels != IGNORE
        if not learned.any():
            continue
        beside: dict[str, Any] = {}
        if teacher is not None:
            theirs = _hidden(teacher, row, learned)
            can_tell = None
            if shared is not None:
                can_tell = shared.places(labels[learned]) >= 0
            beside["teacher"] = LiveTeacher(theirs, head_of(teacher), shared, can_tell)
            beside["divergence"] = Divergence("forward_kl")
        losses = token_losses(
            _hidden(model, row, learned),
            head_of(model),
            labels=labels[learned],
            vocabulary=min(sizes),
            **beside,
        )
        assert losses.cross_entropy is not None
        loss += float(losses.cross_entropy.double().sum())
        if losses.divergence is not None:
            kl += float(losses.divergence.double().sum())
            # Where the teacher cannot tell it is exactly 0.
            compared_tokens += int(losses.divergence.count_nonzero())
        tokens += int(learned.sum())
    if tokens == 0:
        raise ValueError("no labelled token in these rows")
    mean_kl: float | None = None
    if teacher is not None and shared is not None:
        mean_kl = kl / max(1, compared_tokens)
    elif teacher is not None:
        mean_kl = kl / tokens
    return HeldOut(math.exp(loss / tokens), mean_kl, tokens)


def _hidden(model: Any, row: Row, learned: torch.Tensor) -> torch.Tensor:
    """What the head reads at the positions that predict a labelled token: (labels, hidden)."""
    training = model.training
    model.eval()
    inputs = {"input_ids": torch.tensor([row.input_ids], device=model.device)}
    last = states(model, model, inputs).last
    model.train(training)
    return last[0, :-1][learned]


def shrunk(
    student: StudentSettings,
    texts: Iterable[str],
    calibration: Sequence[Example],
    validation: Sequence[Example],
    *,
    plain: bool,
    trained: Path | None,
) -> Shrunk:
    """What was cut out of the base, and how far it is from it on the validation examples, before
    and after training.
    """
    assert student.shrink is not None
    tokenizer = bases.load_tokenizer(student, texts)
    whole = bases.load_whole(student, tokenizer)
    calibration_rows = tokenise_all(calibration, tokenizer, plain=plain).rows
    selection = shrinking.choose(whole, student.shrink, calibration_rows)
    start = shrinking.cut(whole, selection)
    facts = Shrunk(
        parameters_before=shrinking.count_parameters(whole),
        parameters=shrinking.count_parameters(start),
        layers=selection.layers,
    )
    rows = tokenise_all(validation, tokenizer, plain=plain, max_length=student.max_length).rows
    if all(row.prompt_length == len(row.labels) for row in rows):
        return facts
    whole = _ready(whole)
    name = f"[students] {student.name} base = {student.base!r}"
    vocabulary = len(head_of(whole).weight)
    check_head(whole, rows[0].input_ids, name, vocabulary, remedy="Take another base.")
    base = held_out(whole, rows)
    before = held_out(_ready(start), rows, teacher=whole)
    measured: dict[str, Any] = {
        "tokens": before.tokens,
        "perplexity_base": base.perplexity,
        "perplexity_before": before.perplexity,
        "kl_before": before.kl,
    }
    if trained is not None:
        own_code = student.trust_remote_code
        what = f"[students] {student.name}: its model {trained}"
        require_sound_weights(trained)
        with loading(what, trained):
            config = AutoConfig.from_pretrained(trained, trust_remote_code=own_code)
        attention = attention_options(
            config, student.attn_implementation, f"[students] {student.name}"
        )
        with loading(what, trained):
            model = AutoModelForCausalLM.from_pretrained(
                trained, trust_remote_code=own_code, **attention
            )
        after = held_out(_ready(model), rows, teacher=whole)
        measured["perplexity_after"] = after.perplexity
        measured["kl_after"] = after.kl
    return facts.model_copy(update=measured)


def _ready(model: Any) -> Any:
    """Where and as it computes fast: bfloat16 on a GPU, float32 on a CPU."""
    if torch.cuda.is_available():
        return model.to("cuda", torch.bfloat16)
    return model.float()
