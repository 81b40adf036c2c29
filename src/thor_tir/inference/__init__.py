"""Inference: self-correction by backtracking (paper, 2.4) and self-rewarded best-of-N (paper, 3.3)."""
