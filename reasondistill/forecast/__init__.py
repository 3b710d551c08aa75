"""A forecast of what a run will cost, stage by stage, each number with its interval and its source.

    forecast = make_forecast(run, like=[Path("runs/demo")], given=Given())
    forecast.total.wall_hours                        # Range(expected=3.1, low=2.6, high=3.8)
    save(forecast, run.folder)                       # runs/NAME/forecast.json: the report compares

Numbers come from the run's own folder as far as it is done, from the folders that `like` names,
from a calibration (`calibration_run`), and from the user, whose values override measured ones. A
stage for which there is no evidence is marked as unknown. Intervals hold 90 % of simulated runs
(monte_carlo.py) over text lengths, speeds and the share of usable traces. *Not* covered: waiting in
a queue, crashes, a machine that differs from the measured one, problems that differ from those
measured.
"""

from reasondistill.forecast.calibrating import calibration_run
from reasondistill.forecast.costs import Given
from reasondistill.forecast.making import make_forecast, save
from reasondistill.forecast.on_paper import paper_of

__all__ = ["Given", "calibration_run", "make_forecast", "paper_of", "save"]
