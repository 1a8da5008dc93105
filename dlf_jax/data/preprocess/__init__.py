"""From columns to vocabularies, statistics and block records of ids."""
