"""Words for what is wrong with a field of a TOML file, in place of msgspec's, which name types of Python."""

import difflib
import re

import msgspec
import msgspec.inspect

_UNKNOWN = re.compile(r"Object contains unknown field `(?P<name>[^`]*)`")
_MISSING = re.compile(r"Object missing required field `(?P<name>[^`]*)`")
_TYPES = re.compile(r"Expected `(?P<wanted>[^`]*)`, got `(?P<found>[^`]*)`")
_PLACE = re.compile(r" - at `(?:key in )?\$\.?(?P<place>[^`]*)`$")
_WORDS = {
    "str": 'a text in "quotes"',
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "array": "a list in [brackets]",
    "object": "a table",
    "date": "a date",
    "null": "nothing",
}


def shown_fault(error: Exception, top: type[msgspec.Struct]) -> str:
    """Returns one line that names the field and what to write there. `error`: what msgspec.convert raised for
    a document that should be a `top`."""
    text = str(error)
    place = _PLACE.search(text)
    at = place["place"] if place else ""
    prefix = f"{at}: " if at else ""
    if found := _UNKNOWN.match(text):
        return f"{prefix}unknown field {found['name']}{_meant(found['name'], top)}"
    if found := _MISSING.match(text):
        return f"{prefix}the field {found['name']} is missing"
    if found := _TYPES.match(text):
        return f"{prefix}write {_shown(found['wanted'])}, not {_shown(found['found'])}"
    return prefix + _PLACE.sub("", text)


def _shown(types: str) -> str:
    return " or ".join(_WORDS.get(name, name) for name in types.split(" | ") if name != "null") or "nothing"


def _meant(name: str, top: type[msgspec.Struct]) -> str:
    names = _names(top)
    if name in names:
        return ": it belongs into another table"
    near = difflib.get_close_matches(name, sorted(names), n=1)
    return f": did you mean {near[0]}?" if near else ": no field has this name, leave it out"


def _names(top: type[msgspec.Struct]) -> set[str]:
    """Returns the names of all fields, also those of the tables inside."""
    found: set[str] = set()

    def visit(one: object) -> None:
        if isinstance(one, msgspec.inspect.StructType):
            for field in one.fields:
                found.add(field.encode_name)
                visit(field.type)
        elif isinstance(one, msgspec.inspect.Metadata):
            visit(one.type)
        elif isinstance(one, msgspec.inspect.UnionType):
            for each in one.types:
                visit(each)
        elif isinstance(one, msgspec.inspect.DictType):
            visit(one.value_type)
        elif isinstance(one, msgspec.inspect.VarTupleType | msgspec.inspect.ListType):
            visit(one.item_type)

    visit(msgspec.inspect.type_info(top))
    return found
