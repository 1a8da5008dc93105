"""Preprocessing: columns to vocabularies and statistics, and with them to rows of ids and numbers."""
