"""YAML that nobody vouches for: plain values, shallow, every name once. Mistakes are named by line and not quoted."""

from typing import Any

import yaml
from yaml.nodes import MappingNode, Node, SequenceNode

from medfl.errors import ConfigError

_DEEPEST = 32
_OPENING = (
    yaml.BlockMappingStartToken,
    yaml.BlockSequenceStartToken,
    yaml.FlowMappingStartToken,
    yaml.FlowSequenceStartToken,
)
_CLOSING = (yaml.BlockEndToken, yaml.FlowMappingEndToken, yaml.FlowSequenceEndToken)


def load_strictly(text: str, source: str) -> tuple[Any, Node | None]:
    """Return plain values and the tree they stand in.

    Parameters
    ----------
    text : str
    source : str
        What messages call it.

    Returns
    -------
    value : object
        None for an empty text.
    tree : Node or None

    Raises
    ------
    ConfigError
        If it is not YAML, is nested too deeply, has a name twice, or uses aliases (which can make a short text
        endless) or tags.
    """
    try:
        _refuse_references(text, source)
        loader = yaml.SafeLoader(text)
        tree = loader.get_single_node()
        if tree is None:
            return None, None
        value = loader.construct_document(tree)
        _refuse_repeated_keys(tree, source)
        return value, tree
    except ConfigError:
        raise
    except yaml.MarkedYAMLError as error:
        line = f":{error.problem_mark.line + 1}" if error.problem_mark is not None else ""
        raise ConfigError(f"{source}{line}: must be YAML: {error.problem}.") from error
    except (yaml.YAMLError, RecursionError) as error:
        raise ConfigError(f"{source} must be YAML text; it is not.") from error
    except ValueError as error:
        raise ConfigError(f"{source} must be YAML with dates and numbers that exist: {error}.") from error


def _refuse_references(text: str, source: str) -> None:
    depth = 0
    for token in yaml.scan(text, Loader=yaml.SafeLoader):
        line = token.start_mark.line + 1
        depth += isinstance(token, _OPENING) - isinstance(token, _CLOSING)
        if depth > _DEEPEST:
            raise ConfigError(f"{source}:{line}: settings must not be nested deeper than {_DEEPEST} levels.")
        if isinstance(token, yaml.AliasToken | yaml.TagToken):
            raise ConfigError(f"{source}:{line}: settings must not use YAML aliases or tags ('*name', '!tag').")


def _refuse_repeated_keys(node: Node, source: str) -> None:
    if isinstance(node, MappingNode):
        seen: set[str] = set()
        for key, child in node.value:
            if key.value in seen:
                raise ConfigError(f"{source}:{key.start_mark.line + 1}: '{key.value}' must stand only once.")
            seen.add(key.value)
            _refuse_repeated_keys(child, source)
    elif isinstance(node, SequenceNode):
        for child in node.value:
            _refuse_repeated_keys(child, source)
