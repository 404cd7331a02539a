"""Which words of two sentences mean the same to a trained text encoder: the plan, its quality, its figure."""
