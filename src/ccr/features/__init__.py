"""features: images, videos or a published dump -> one features file per data set and extractor.

`extracted` runs the extractors (`descriptor`, `image_model`, `video_model`) on media files, each once: their features
are kept in the item `cache`; `shards` split the work. `imported` looks up features that were extracted elsewhere.
"""
