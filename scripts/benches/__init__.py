"""What `vidgen bench` measures: one module a bench, and the clock, roof, memory, counts and rows that they share."""
