"""How many tokens a text has to a student.

count = token_counter("Qwen/Qwen3-0.6B-Base")
count("<think>\\nhm\\n</think>\\n\\n7")          # 9
"""

from __future__ import annotations

from collections.abc import Callable

from reasondistill.errors import ConfigError
from reasondistill.models.prompts import after_prompt
from reasondistill.models.tokenising import InputFault, tokenise_answer
from reasondistill.models.weights import named_folder


def token_counter(name: str, revision: str | None = None) -> Callable[[str], int | None]:
    """Counts the tokens of an assistant's turn, as a training row has them, without an end; None
    for a turn that the tokenizer does not give back.

    Raises ConfigError where there is no such tokenizer.
    """
    from reasondistill.models.tokenizer_files import open_tokenizer

    folder = named_folder(name)
    source = str(folder) if folder.is_dir() else name
    try:
        tokenizer = open_tokenizer(source, revision=revision)
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"[examples.filters] tokenizer = {name!r}: cannot be loaded: {error}"
        ) from error

    def count(text: str) -> int | None:
        try:
            return len(tokenise_answer(tokenizer, after_prompt(text, opens_think=False)))
        except InputFault:
            return None

    return count
