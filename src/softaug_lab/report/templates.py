"""The templates of pages, compiled once in a process."""

import functools

from jinja2 import Environment, PackageLoader, StrictUndefined, Template


@functools.cache
def template(name: str) -> Template:
    """Return the template of a file in this package; all text that it fills in is escaped."""
    environment = Environment(
        loader=PackageLoader("softaug_lab.report", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(name)
