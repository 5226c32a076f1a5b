"""Images that were sent along: recognised, decoded and fitted to a model, whoever sent them."""
