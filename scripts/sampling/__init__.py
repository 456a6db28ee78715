"""What `vidgen sample` makes: which clips, in which pipelines, within the memory that is free."""
