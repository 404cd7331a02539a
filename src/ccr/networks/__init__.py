"""Everything with weights: text encoder, visual encoder, heads, and the dual encoder made of them."""
