"""Stage 3: Trace → Verdict, exactly one each, in trace order.

    manifest = run_verdicts(section, run / "1-problems", run / "2-traces", run / "3-verdicts",
                            workers=2, memory_mib=1024)

judging.py: traces in, verdicts out (`judge_traces`). Around it stage.py puts the folder and shares
the work among several workers, vote.py the majority where there is no gold answer, and judge.py a
model that is asked about what the rules left undecided.
"""

from reasondistill.stages.verdicts.judge import load_judge_prompt
from reasondistill.stages.verdicts.judging import grade_traces, judge_traces, to_item
from reasondistill.stages.verdicts.stage import run_verdicts

__all__ = ["grade_traces", "judge_traces", "load_judge_prompt", "run_verdicts", "to_item"]
