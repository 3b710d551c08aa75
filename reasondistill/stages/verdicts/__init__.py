"""Stage 3: Trace → Verdict, exactly one each, in trace order.

    manifest = run_verdicts(section, run / "1-problems", run / "2-traces", run / "3-verdicts",
                            Serving(cluster))

judging.py: traces in, verdicts out (`judge_traces`): by rules, and by a judge (judge.py) where they
come to no decision. Around it stage.py puts the folder, workers.py the sharing, vote.py the
majority where there is no gold answer, and undecided.py what a judge has replied before.
"""

from reasondistill.stages.verdicts.judge import load_judge_prompt
from reasondistill.stages.verdicts.judging import grade_traces, judge_traces, to_item
from reasondistill.stages.verdicts.stage import foresee_verdicts, run_verdicts

__all__ = [
    "foresee_verdicts",
    "grade_traces",
    "judge_traces",
    "load_judge_prompt",
    "run_verdicts",
    "to_item",
]
