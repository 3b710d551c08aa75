"""Room 3 of grading: decide whether two answers are the same."""
