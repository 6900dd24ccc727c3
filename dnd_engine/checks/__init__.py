"""What can be checked of an adapter without labels."""
