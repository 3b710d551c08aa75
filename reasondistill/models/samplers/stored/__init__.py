"""Published traces: completions that stand in a data set, with who wrote them as far as it is said.

    [[traces.teachers]]
    model = "open-r1/OpenR1-Math-220k"
    sampler = "stored"

kind.py declares the sampler, naming.py names its data set; shapes.py finds which fields of a row
hold what; reading.py, turns.py and exchanges.py read them into texts.py; holding.py gives each
problem its own; sampler.py hands them out. Nothing that a data set says of its traces being right
is believed: the verdicts stage grades them as all others.
"""

from reasondistill.models.samplers.stored.kind import SAMPLER

__all__ = ["SAMPLER"]
