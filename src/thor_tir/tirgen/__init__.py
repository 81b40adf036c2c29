"""TIRGen: an actor reasons, a critic turns the computable steps into programs, the sandbox runs them (paper, 2.2)."""
