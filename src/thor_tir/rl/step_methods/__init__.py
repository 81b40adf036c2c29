"""Ways to credit single steps, under one interface; each says what is sampled, what is rewarded and who is credited."""
