"""Wire formats that several vendors share: pure functions from asks to bodies and from replies to results."""
