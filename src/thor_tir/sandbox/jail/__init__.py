"""What runs on the other side of the fence. These files import the standard library and one another alone."""
