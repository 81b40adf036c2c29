"""What is faster in C than through torch on a CPU, compiled by the machine's own compiler where it has one."""
