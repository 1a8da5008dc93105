"""Days of logs, each trained on from the day before."""
