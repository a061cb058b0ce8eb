"""What inference is: no HTTP, no vendor, no disk."""
