"""The web application that shows run folders while they grow, and after."""

DEFAULT_MOST = 400
"""Trajectories of one run in a file, where nothing else is asked for: more than a person browses."""
