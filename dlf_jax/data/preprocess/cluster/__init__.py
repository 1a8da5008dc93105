"""Preparation on a Dask cluster (extra `dask`), or on a local cluster of processes: the bytes of one machine.

Files are read once, piece by piece. Rows are staged on disk as codes of the values that a few pieces hold;
vocabularies are counted and joined, shards are written from what is staged. What workers hand over lies on
disk, under names that nobody else has, so that a lost worker costs its latest pieces and nothing else.
"""
