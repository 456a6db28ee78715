"""Reports as pages of HTML that need nothing beside them: markup, figures, clips that play, and what each page says."""
