"""Room 4 of grading: grade items, one by one or in killable workers, and count votes."""
