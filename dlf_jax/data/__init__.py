"""Raw files -> encoded block records -> batches. Knows nothing of models."""
