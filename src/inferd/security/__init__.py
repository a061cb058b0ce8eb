"""Who is asking, and what they may do. Contract: api.md section 12."""
