"""Tools that the problems and examples stages use: rows in, selections and data sets out."""
