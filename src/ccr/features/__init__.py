"""features: images, videos or a published dump -> one features file per data set and extractor.

`extracted` runs the extractors (`descriptor`, `image_model`, `video_model`) on media files, each once: what they make
of a file is kept in the item `cache`; `shards` share the work. `imported` looks features up that somebody else has
extracted.
"""
