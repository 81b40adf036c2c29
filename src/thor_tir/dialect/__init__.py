"""Spelling of a trajectory: prompts, code fences, observation frames. The only place that turns text into tokens."""
