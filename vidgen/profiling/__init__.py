"""What work costs and what the machine can do: FLOPs, roofline, MFU, live memory."""
