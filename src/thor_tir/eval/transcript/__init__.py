"""Trajectories as a person reads them."""
