"""What a model says of stored traces: how likely their tokens are, and how they rank."""
