"""A small reward model from the trajectories of a run: examples with verdicts as labels, and its training loop."""
