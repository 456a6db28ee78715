"""What `vidgen bench` measures: one module a bench, and the clock, roofline, counts and rows that they share."""
