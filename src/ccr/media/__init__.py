"""Pictures and videos: what is decoded of a file."""
