"""A data set as others load it: forms, card, union of runs."""
