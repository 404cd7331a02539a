"""Search a collection with a trained run: in the terminal and on a local page (`ccr search`, docs/search.md).

`collection` holds the items, `index` finds the nearest embeddings, `searcher` combines both for one run, `server` is
the page's backend, `page/` its frontend.
"""
