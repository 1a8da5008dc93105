"""The state, its step, and what drives them from batches to a trained model."""
