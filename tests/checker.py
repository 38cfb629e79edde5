"""The run-time type checker of the tests: beartype, with an int taken where a float is asked."""

from beartype import BeartypeConf, beartype

check = beartype(conf=BeartypeConf(is_pep484_tower=True))
