"""Which words of two sentences mean the same, by a trained text encoder: the plan, its quality, its picture."""
