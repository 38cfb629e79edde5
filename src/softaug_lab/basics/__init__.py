"""Ground floor: errors, whole files, keyed random numbers, the processes of a run."""
