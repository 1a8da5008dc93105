"""Readers: files of any format to chunks of typed columns."""
