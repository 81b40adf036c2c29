"""Experiments over seeds, declared as data: what is run, what is compared, and the tables that come out."""
