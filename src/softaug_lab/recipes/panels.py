"""Headings under which `--help` groups the options of a command, in their order."""

from cyclopts import Group

DATA = Group("Data", sort_key=1)
AUGMENTATION = Group("Augmentation", sort_key=2)
MODEL = Group("Model", sort_key=4)  # 3 is the list of arms, which the command line adds
SCHEDULE = Group("Schedule", sort_key=5)
MEASURES = Group("What to measure", sort_key=6)
RUN = Group("Run", sort_key=7)
MACHINES = Group("Devices and machines", sort_key=8)
