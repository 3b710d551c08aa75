"""What a student will be shown, looked at before anything is paid: one question and one trace
through its chat template.
"""

from __future__ import annotations

from typing import Any

from reasondistill.errors import ConfigError
from reasondistill.models.prompts import Prompt
from reasondistill.models.templates import QUESTION, check_prompt
from reasondistill.records import Example, Message
from reasondistill.stages.students.tokens import THINK, tokenise

_CLOSE = "</think>"
_REASONING = "4711 - 1234 = 3477"
_ANSWER = "\\boxed{3477}"


def check_rendering(tokenizer: Any, prompt: Prompt, whose: str, *, thinks: bool) -> None:
    """Raise ConfigError unless this tokenizer, its template's options set, shows the question and
    the system text once, and gives a trace back whole.

    With `thinks` the trace holds reasoning, which must be the only block behind the question: no
    template may have opened or closed one for it.
    """
    check_prompt(tokenizer, prompt, whose, options={})
    answer = _ANSWER
    if thinks:
        answer = f"{THINK}\n{_REASONING}\n{_CLOSE}\n\n{_ANSWER}"
    turns = (*prompt.render(QUESTION), Message(role="assistant", content=answer))
    example = Example(id="", problem_id="", trace_id=None, messages=turns, tokens=0, split="train")
    row = tokenise(example, tokenizer, plain=prompt.plain)
    text: str = tokenizer.decode(
        row.input_ids[:-1], skip_special_tokens=False, clean_up_tokenization_spaces=False
    )
    asked = turns[-2].content.strip()
    written = text[text.rindex(asked) + len(asked) :]
    if not thinks:
        is_whole = written.endswith(_ANSWER)
    else:
        blocks = (written.count(THINK), written.count(_CLOSE))
        is_whole = blocks == (1, 1) and written.endswith(answer.removeprefix(THINK))
    if not is_whole:
        raise ConfigError(
            f"{whose}: behind the question its tokens say {written!r}, where the trace should "
            f"stand once and whole: {answer!r}. Set template_options or another chat_template."
        )
