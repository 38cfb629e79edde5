"""`python -m softaug` is the command line."""

from softaug.lab.cli import main

main()
