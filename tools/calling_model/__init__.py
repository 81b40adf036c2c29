"""A nano model that calls tools between tags, made from the embedded actor by the commands that users have."""
