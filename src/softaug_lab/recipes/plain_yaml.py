"""YAML without aliases, of which a few lines can stand for gigabytes."""

from typing import Any

import yaml


class _Plain(yaml.SafeLoader):
    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError("aliases, such as *name, are not read")
        return super().compose_node(parent, index)


def load_yaml(text: str) -> Any:
    """Load numbers, text, lists and dicts from YAML; raises yaml.YAMLError for anything else."""
    try:
        return yaml.load(text, Loader=_Plain)
    except RecursionError as error:
        raise yaml.YAMLError("nested too deeply") from error
