"""Stage translate: captions -> their translations, forward, back, or of the test queries, and how good they are.

`machine` translates, through an engine and the `memory`; `noisy` and `filters` make variants of what it wrote, and
`human` puts human captions in its place; `shards` share its work; `quality` measures.
"""
