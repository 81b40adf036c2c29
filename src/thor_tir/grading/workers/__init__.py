"""The grader's own processes."""
