"""How the staff who decide something are named in a site's files."""

import re
from typing import Annotated

from pydantic import StringConstraints

from medfl.errors import ConfigError

PERSON = r"^[\w][\w .,'@-]{0,63}$"
PersonName = Annotated[str, StringConstraints(strip_whitespace=True, pattern=PERSON)]


def checked_person(name: str) -> str:
    """Return a name without blanks around it.

    Raises
    ------
    ConfigError
        If it could not stand in a log.
    """
    stripped = name.strip()
    if re.fullmatch(PERSON, stripped) is None:
        raise ConfigError(
            "Who decides must have a name: letters, digits, blanks and .,'@-, at most 64. Say it with --by."
        )
    return stripped
