"""What passes between the stages: how files are laid out and written, what identifies a result, and what keeps it.

`schemas` says which columns a file has, `files` and `parquet` read and write, `hashes` and `contents` hash files by
their bytes and by what they hold, `code` hashes source code, `jobs` makes keys of all these, `seals` says which bytes
a job wrote, and `memo` keeps results by key.
"""
