"""Files and folders that are named by URL, such as `s3://bucket/run`, behind local copies of them.

`urls` says what a URL is; `store` speaks with a store, through fsspec, and `retry` is as patient with it as
the settings say; `cache` keeps local copies within bounds; `manifest` is the marker that makes a folder in a
store whole; on these stand `inputs`, `outputs`, `data_folder`, `snapshot` (a folder to read) and
`working_copy` (a workdir to write, with `store_lock`).

A plain path imports nothing of fsspec.
"""
