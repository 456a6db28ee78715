"""What verbs share: options, errors, printing, outputs."""
