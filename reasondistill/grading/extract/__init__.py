"""Room 1 of grading: find the answer in what a model wrote."""
