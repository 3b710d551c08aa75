"""Where tasks run. Every launcher takes a run and its tasks and offers the same three calls: submit
a task, wait, cancel.
"""
