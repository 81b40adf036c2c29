"""The engine inside this process: continuous batching over a transformers model."""
