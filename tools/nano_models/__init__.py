"""Makes the two models that come with the package: their text, their tokenizer, their training."""
