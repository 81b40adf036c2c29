"""How a trajectory is spelled: prompts, code fences, observation frames. The only place that turns text into tokens."""
