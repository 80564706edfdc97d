"""Jobs on a cluster: site settings, the job of an experiment, and the command or manifest that starts it."""
