"""What every request passes before the page answers it."""
