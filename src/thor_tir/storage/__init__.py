"""Files that a run leaves on disk: journals, who may write, records as JSON."""
