"""Arguments and printing. What is done stands in pipeline/, where it runs in launch/."""

from reasondistill.cli.console import app
from reasondistill.cli.entry import main

__all__ = ["app", "main"]
