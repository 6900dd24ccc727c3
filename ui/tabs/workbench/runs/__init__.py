"""What is made, step by step: synthesis, imprint, and what all runs share."""
