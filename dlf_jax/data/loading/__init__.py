"""Loading: block records to shuffled, sharded, resumable batches."""
