"""`vidgen evaluate ...`: one file a verb."""
