"""The objectives: one module each, with `loss(step, **options)`, which has a gradient but no weights."""
