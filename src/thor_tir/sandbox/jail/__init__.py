"""Code of the processes that confine and run programs; it imports the standard library and itself alone."""
