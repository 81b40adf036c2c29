"""Tools beside the sandbox: what one is, how its arguments are checked, and how a call of it is written."""
