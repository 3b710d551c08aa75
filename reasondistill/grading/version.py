"""Which grader gave a verdict. A number of its own for every change of any verdict."""

VERSION = 6
GRADER = f"reasondistill-grader@{VERSION}"
