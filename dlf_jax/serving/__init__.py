"""Trained models at work: from a file of rows to probabilities."""
