"""What has a gradient and no weights of its own: one module per objective, each with `loss(step, **options)`."""
