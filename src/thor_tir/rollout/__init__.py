"""One problem to one trajectory, many at once, and the cut before a failed call."""
