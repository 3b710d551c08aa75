"""Tools of the problems and examples stages: rows in, selections and data sets out."""
