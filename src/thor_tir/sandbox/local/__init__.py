"""Programs on this machine, in processes forked from a template."""
