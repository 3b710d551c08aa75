"""Which inputs hypothesis draws, and how many: the same ones in each run of the same tests.

What is drawn anew each time finds old faults on the day of an unrelated change. Whoever looks for
faults draws afresh: `pytest -m hypothesis --hypothesis-profile=search`.
"""

from __future__ import annotations

from hypothesis import settings
from hypothesis.internal.conjecture import providers

SEARCH_FACTOR = 10


def register_profiles() -> None:
    """ "same" (loaded): drawn by the code of the test alone. "search": drawn anew, ten times as
    many; what fails is kept in `.hypothesis/` and drawn first the next time.
    """
    settings.register_profile("same", derandomize=True, deadline=None, print_blob=True)
    many = settings.get_profile("same").max_examples * SEARCH_FACTOR
    settings.register_profile("search", derandomize=False, deadline=None, max_examples=many)
    settings.load_profile("same")
    _leave_constants_out()


def draws(usual: int) -> int:
    """How many inputs a test draws under the profile that is loaded."""
    return usual * settings.default.max_examples // settings.get_profile("same").max_examples


def _leave_constants_out() -> None:
    """Hypothesis also draws constants of the modules that are loaded: they, and with them all that
    is drawn later, would change with any line of the package and with the order of the tests.
    """
    of_modules = providers._get_local_constants
    none = providers._local_constants

    def constants() -> providers.Constants:
        if settings.default.derandomize:
            return none
        return of_modules()

    providers._get_local_constants = constants
