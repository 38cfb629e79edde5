"""YAML without aliases, of which a few lines can stand for gigabytes, and without doubles."""

from typing import Any

import yaml


class _Plain(yaml.SafeLoader):
    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError("aliases, such as *name, are not read")
        return super().compose_node(parent, index)

    def construct_mapping(self, node: Any, deep: bool = False) -> Any:
        found = super().construct_mapping(node, deep)
        if len(found) < len(node.value):
            raise yaml.YAMLError(f"each name can stand once, among {', '.join(map(str, found))}")
        return found


def load_yaml(text: str) -> Any:
    """Load numbers, text, lists and dicts from YAML; raises yaml.YAMLError for anything else."""
    try:
        return yaml.load(text, Loader=_Plain)
    except RecursionError as error:
        raise yaml.YAMLError("nested too deeply") from error
