"""Completions around an answer: boxes, sentences, `####`, thoughts. Each is named; `%s` is the
answer, `%g` in a trap is another answer that was given up on the way.
"""

from __future__ import annotations

import random
import re

TEMPLATES: dict[str, str] = {
    "bare": "%s",
    "dollar": "$%s$",
    "box": "\\boxed{%s}",
    "box_in_dollars": "So the answer is $\\boxed{%s}$.",
    "display_box": "Therefore we conclude:\n\n\\[\n\\boxed{%s}\n\\]",
    "double_dollar_box": "We are done.\n$$\\boxed{%s}$$",
    "answer_is": "The answer is $%s$.",
    "final_answer_is": "We add and simplify. Thus the final answer is $%s$.",
    "final_answer_bold": "Some steps.\n\n**Final Answer**\n\n$\\boxed{%s}$",
    "final_answer_line": "Some steps.\n\nFinal Answer: $%s$",
    "minerva": "Final Answer: The final answer is $%s$. I hope it is correct.",
    "answer_colon": "Let us see.\nAnswer: $%s$",
    "bold_answer": "Some steps.\n\n**Answer:** $%s$",
    "hashes": "We add all up.\n#### %s",
    "think_box": "<think>\nOkay, let me think about it.\n</think>\n\nThe answer is $\\boxed{%s}$.",
    "think_sentence": "<think>hmm, $12+7=19$, not useful</think>\nThe final answer is \\(%s\\).",
    "fbox": "\\fbox{%s}",
    "spaced_box": "\\boxed{ %s }",
    "therefore": "Therefore, the answer is: \\[ %s \\]",
    "boxed_dollar": "\\boxed{$%s$}",
    "box_then_prose": "The result is $\\boxed{%s}$. This completes the solution of the problem.",
    "box_mention": "\\boxed{%s}\n\nI have put the final answer inside \\boxed{} as requested.",
    "box_and_check": "$\\boxed{%s}$\n\nChecking: the conditions hold, so this is right.",
    "box_twice": "We find $\\boxed{%s}$.\n\n**Final Answer**\n$\\boxed{%s}$",
    "end_token": "The answer is $\\boxed{%s}$.<|im_end|>",
    "tagged": "<think>Let me see.</think><answer>\\boxed{%s}</answer>",
}
FOR_WORDS = [
    "bare",
    "box",
    "box_in_dollars",
    "display_box",
    "hashes",
    "final_answer_bold",
    "think_box",
]
TRAPS = [
    "<think>Maybe \\boxed{%g}? No.</think>\n\nThe answer is $\\boxed{%s}$.",
    "At first it seems to be $%g$, but that is wrong. The answer is $\\boxed{%s}$.",
    "Wrong attempt: \\boxed{%g}. Corrected: \\boxed{%s}",
    "I first got $%g$. So the final answer is $%s$.",
]


def wrap(text: str, name: str) -> str:
    """The completion of that name with the answer in it."""
    return TEMPLATES[name].replace("%s", text)


def suitable(text: str) -> list[str]:
    """The templates that fit an answer: one that has dollars, or words, fits in few."""
    if "$" in text or re.search(r"[A-Za-z]{3}", re.sub(r"\\[A-Za-z]+|\{[^}]*\}", "", text)):
        return FOR_WORDS
    return list(TEMPLATES)


def wrapped(text: str, draw: random.Random) -> str:
    """A completion around a rewritten answer."""
    return wrap(text, draw.choice([name for name in suitable(text) if name != "box_mention"]))


def wrapped_wrong(text: str, gold: str, draw: random.Random) -> str:
    """A completion around a wrong answer; now and then the right one was given up before."""
    names = suitable(text)
    if draw.random() < 0.05 and names is not FOR_WORDS:
        return draw.choice(TRAPS).replace("%g", gold.replace("$", "")).replace("%s", text)
    return wrap(text, draw.choice(names))
