"""What passes between the stages: how files are laid out and written, what identifies a result, and where it is kept.

`schemas` defines the columns of files, `files` and `parquet` read and write them, `hashes` and `contents` hash files by
their bytes and by their content, `code` hashes source code, `jobs` derives keys from all these, `seals` records which
bytes a job wrote, and `memo` stores results by key.
"""
