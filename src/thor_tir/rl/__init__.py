"""Hierarchical RL: GRPO over trajectories and over single failed calls, jointly (paper, section 2.3)."""
