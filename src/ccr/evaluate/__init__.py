"""Stage evaluate: `retrieval`, a trained network on the human test captions of one language; `alignment`, a teacher's
word alignment; `encoder`, embeddings of any collection."""
