"""`python -m softaug` is the command line."""

from softaug_lab.cli.app import main

main()
