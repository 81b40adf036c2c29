"""Runs: one function that returns a frozen configuration, and the stages that carry it out."""
