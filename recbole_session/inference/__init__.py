"""From a run folder to recommendations; nothing is imported here, so that a subcommand's help stays fast."""
