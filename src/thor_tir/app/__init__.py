"""Runs: configuration, what the stages share, and the stages themselves."""
