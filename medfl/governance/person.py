"""How the staff who decide something are named in a site's files."""

from typing import Annotated

from pydantic import StringConstraints

PERSON = r"^[\w][\w .,'@-]{0,63}$"
PersonName = Annotated[str, StringConstraints(strip_whitespace=True, pattern=PERSON)]
