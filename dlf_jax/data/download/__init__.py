"""The published files: fetched, recognised, checked."""
