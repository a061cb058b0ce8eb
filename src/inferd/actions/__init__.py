"""What each request does, once understood: no HTTP here."""
