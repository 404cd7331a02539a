"""Pictures and videos: decoding of media files."""
