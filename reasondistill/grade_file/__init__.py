"""A file of answers graded, beside any run: `reasondistill grade` and `reasondistill matrix`."""

from reasondistill.grade_file.grading import grade_file

__all__ = ["grade_file"]
