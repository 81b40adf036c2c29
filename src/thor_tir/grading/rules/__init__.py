"""When two answers are the same: rules over text, numbers and expressions."""
