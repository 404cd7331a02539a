"""Stage translate: translations of captions (forward, back, or of the test queries) and their quality.

`machine` translates, using an engine and the `memory`; `noisy` and `filters` derive variants from its output;
`human` substitutes human captions; `shards` splits its work; `quality` measures.
"""
