"""Room 2 of grading: read an answer into numbers, units, words, expressions and shapes."""
