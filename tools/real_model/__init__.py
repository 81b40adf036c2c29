"""The whole method on a small real model, in pieces that continue: by the commands that users have."""
