"""The columns of the files that pass between the stages, and the names that may occur in them."""

import pyarrow as pa

SPLITS = ("train", "val", "test")
ORIGINS = ("human", "mt", "back", "parallel")
# a trained network on disk: role -> file in the run's folder
RUN_FILES = {"model": "model.safetensors", "config": "config.json", "tokenizer": "tokenizer.json"}

_NAME = pa.dictionary(pa.int32(), pa.string())
CAPTIONS = pa.schema(
    [
        ("item_id", pa.string()),
        ("caption_id", pa.string()),
        ("split", _NAME),
        ("lang", _NAME),
        ("origin", _NAME),
        ("engine", pa.string()),
        ("parent_id", pa.string()),
        ("text", pa.string()),
    ]
)
ITEMS = pa.schema([("item_id", pa.string()), ("split", _NAME), ("path", pa.string()), ("kind", _NAME)])
FEATURES = pa.schema([("item_id", pa.string()), ("frames", pa.int32()), ("features", pa.list_(pa.float16()))])
REJECTED = pa.schema([("item_id", pa.string()), ("path", pa.string()), ("reason", pa.string())])
LEFT_OUT_PAIRS = pa.schema(
    [("line", pa.int32()), ("source", pa.string()), ("target", pa.string()), ("reason", pa.string())]
)
ALIGNMENT = pa.schema(
    [
        ("caption_id", pa.string()),
        ("source_token", pa.string()),
        ("target_token", pa.string()),
        ("source_start", pa.int32()),
        ("source_end", pa.int32()),
        ("target_start", pa.int32()),
        ("target_end", pa.int32()),
    ]
)
WEIGHTS = pa.schema([("caption_id", pa.string()), ("chrf", pa.float32()), ("weight", pa.float32())])
RANKS = pa.schema([("direction", _NAME), ("query_id", pa.string()), ("item_id", pa.string()), ("rank", pa.int32())])
EMBEDDINGS = pa.schema([("caption_id", pa.string()), ("embedding", pa.list_(pa.float32()))])
