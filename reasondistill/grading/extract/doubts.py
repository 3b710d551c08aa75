"""What is only asked, and what the next sentence takes back: neither is an answer.

is_withdrawn(". Wait, that can't be right.")   → True
is_question("Could the answer be 15")          → True
says_yes(" Yes, it is.")                       → True
"""

from __future__ import annotations

import re

_TURNS = (
    r"(?:(?:oh|wait|hmm+|hm|no|nope|oops|but|actually|hold\s+on|sorry|however|and|yet)\b"
    r"[\s,.!…—–-]*)*"
)
_ENDS = r"(?=\s*(?:[.,;:!—–)\n]|\Z)|\s+(?:because|since|as|so|for)\b)"
_WITHDRAWN = re.compile(
    rf"[\s*_$)\]}}.,;:!—–-]*{_TURNS}(?:(?:that|this|it|which|(?:the|my)\s+(?:above|answer|result))"
    r"(?:"
    r"(?:['’]s|\s+(?:is|was|seems|looks|must\s+be|would\s+be))\s+(?:\w+ly\s+|also\s+|just\s+|"
    r"all\s+)?"
    r"(?:wrong|incorrect|false|invalid|impossible|absurd|nonsense|an?\s+(?:mistake|error)|"
    r"my\s+mistake|"
    r"not\s+(?:right|correct|possible|true|valid|it|the\s+(?:right\s+|correct\s+)?answer)|"
    r"too\s+(?:large|small|big|high|low))|"
    r"\s+(?:can\s*not|can['’]t|could\s*n['’]t|could\s+not)\s+(?:possibly\s+)?"
    r"(?:be(?:\s+(?:right|correct|true|possible|it|the\s+answer))?|work)|"
    r"(?:\s+is|\s+was)n['’]t\s+(?:right|correct|possible|true|valid|it|the\s+(?:right\s+|"
    r"correct\s+)?"
    r"answer)|"
    r"\s+(?:does\s*n['’]t|does\s+not)\s+(?:make\s+sense|work|add\s+up)"
    rf"){_ENDS}|(?:这|那)?(?:不对|不正确|是错的|错了))",
    re.IGNORECASE,
)
_ASKS = re.compile(
    r"\W*(?:(?:so|then|hmm+|hm|wait|but|and|now|or|well|ok|okay)\b\W*)*"
    r"(?:is|are|was|were|could|would|might|can|should|may|does|do|did|will|shall|what|which|who|"
    r"how|why|when|where|ist|sind|est-ce|qu['’]est-ce|quel(?:le)?s?|cu[aá]l(?:es)?)\b|"
    r".*(?:吗|呢|么)\s*\Z",
    re.IGNORECASE | re.DOTALL,
)
_YES = re.compile(
    r"\W*(?:yes|yeah|yep|indeed|correct|right|exactly|sure|certainly|of\s+course|it\s+is|"
    r"that\s+is\s+(?:right|correct)|that['’]s\s+(?:right|correct)|that\s+works|i\s+think\s+so|"
    r"ja|oui|s[ií]|是的|对)(?![\w'’])",
    re.IGNORECASE,
)


def is_withdrawn(behind: str) -> bool:
    """Whether the text directly behind an answer says that it is wrong."""
    return _WITHDRAWN.match(behind[:200]) is not None


def is_question(sentence: str) -> bool:
    """Whether a sentence that ends in `?`, here without it, asks rather than supposes."""
    return _ASKS.match(sentence) is not None


def says_yes(behind: str) -> bool:
    """Whether the text behind a question answers it with yes."""
    return _YES.match(behind) is not None
