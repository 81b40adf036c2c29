"""Cold-start SFT on the trajectories that TIRGen kept (paper, section 2.3, Eq. 3)."""
