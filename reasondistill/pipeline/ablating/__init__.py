"""Variants of one pipeline file, trained at equal tokens in the loss and compared: `ablate`.

    runs/demo-ablate/ablation.json    what was compared, and what came out
    runs/demo-ablate/ablation.md      the same as sentences and tables
    runs/demo-ablate/k-1/             a variant: a run folder like any other
    runs/demo-ablate/k-4/

Each variant has a run folder of its own, so that `show`, `walk`, `compare`, `resume`, `check` and
the report know it. What is equal among variants is made once, in the folder of the first of them,
and taken over from there (`sharing.py`). One pipeline file with a student for each variant would
share without copies, but only where nothing but the student's own keys vary.

    folders.py       the run of each variant, and what it does at which time
    sharing.py       what two variants have in common is verified, and copied
    equal_tokens.py  how many steps give each variant the same tokens in the loss
    results.py       samples in, comparisons out
    wording.py       one sentence for each rule, and the tables
"""
