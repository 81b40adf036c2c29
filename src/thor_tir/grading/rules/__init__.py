"""Equality of two answers: rules over text, numbers and expressions."""
