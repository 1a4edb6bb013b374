"""JSON as Docker takes it: names of members whatever the case of their letters, and null for what is nothing.

Docker decodes with Go's encoding/json, where a member is for the field whose name is equal, or equal but for case.
Keys of maps (labels, options, sysctls) are data and stay as they are.  Null in a list or a map is the zero value of
what it holds: an empty string, a structure with nothing in it.
"""

from __future__ import annotations

import functools
import types
from collections.abc import Callable
from typing import Annotated, Any, Union, cast, get_args, get_origin

import msgspec

from fairlead.errors import Invalid

_Rename = Callable[[Any], Any]


def named(value: Any, kind: Any) -> Any:
    """A decoded JSON value, its members named as in `kind`, a type as msgspec takes it.

    Of several members for one field the last counts, as for Go.  What does not fit the type is left as it is, for the
    conversion to complain of.
    """
    rename = _renamer(kind)
    return rename(value) if rename else value


@functools.cache
def _renamer(kind: Any) -> _Rename | None:
    """None where nothing in the type has names, nor null another meaning."""
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is Annotated:
        return _renamer(arguments[0])
    if origin in (Union, types.UnionType):
        return next(filter(None, map(_renamer, arguments)), None)
    if origin in (list, dict):
        inner, zero = _renamer(arguments[-1]), _zero(arguments[-1])
        if inner or zero:
            each = _rename_items if origin is list else _rename_values
            return functools.partial(each, functools.partial(_rename_item, inner, zero))
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        members = {
            field.encode_name.casefold(): (field.encode_name, _renamer(field.type))
            for field in msgspec.structs.fields(kind)
        }
        return functools.partial(_rename_members, members)
    return None


def _zero(kind: Any) -> Callable[[], Any] | None:
    """What makes the value of null; None where null is a value of the type."""
    if get_origin(kind) is Annotated:
        return _zero(get_args(kind)[0])
    if kind in (str, int, bool):
        return cast(Callable[[], Any], kind)
    return dict if isinstance(kind, type) and issubclass(kind, msgspec.Struct) else None


def _rename_item(inner: _Rename | None, zero: Callable[[], Any] | None, value: Any) -> Any:
    if zero and value is None:
        return zero()
    return inner(value) if inner else value


def _rename_items(inner: _Rename, value: Any) -> Any:
    return [inner(item) for item in value] if isinstance(value, list) else value


def _rename_values(inner: _Rename, value: Any) -> Any:
    return {key: inner(item) for key, item in value.items()} if isinstance(value, dict) else value


def _rename_members(members: dict[str, tuple[str, _Rename | None]], value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    renamed = {}
    for name, item in value.items():
        known, inner = members.get(name.casefold(), (name, None))
        renamed[known] = inner(item) if inner else item
    return renamed


def text_member(members: dict[str, Any], name: str) -> str:
    """A member that is a string, empty where there is none; raises `Invalid`."""
    value = members.get(name) or ""
    if not isinstance(value, str):
        raise Invalid(f"{name} must be a string")
    if "\0" in value:
        raise Invalid(f"{name} must not have a zero byte")
    return value
