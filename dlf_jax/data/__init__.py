"""Data: raw files to encoded block records to batches; independent of models."""
