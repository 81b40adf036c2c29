"""Benchmarks of programs: tasks, how a program is run on them, and what counts as solved."""
