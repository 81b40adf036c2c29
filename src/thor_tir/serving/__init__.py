"""The whole loop behind an address that speaks OpenAI's API: thoughts, programs, repairs and best-of-N run inside."""
