"""Search a collection with a trained run: in the terminal and on a local page (`ccr search`, docs/search.md).

`collection` knows the items, `index` finds the nearest embeddings, `searcher` puts both behind one run, `server` is the
page's side that answers, `page/` the side that a browser shows.
"""
