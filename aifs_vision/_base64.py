"""Base64 as people have it."""

from __future__ import annotations

import base64
import binascii

__all__ = ["bytes_of_base64"]

_USUAL = bytes.maketrans(b"-_", b"+/")


def bytes_of_base64(text: str | bytes) -> bytes:
    """The bytes of a text in base64: also in lines, without its padding, or in the alphabet for addresses.

    Raises:
        ValueError: it is none.
    """
    data = text.encode("utf-8", "surrogatepass") if isinstance(text, str) else text
    try:
        return base64.b64decode(data, validate=True)
    except binascii.Error as error:
        plain = b"".join(data.split()).translate(_USUAL).rstrip(b"=")
        try:
            return base64.b64decode(plain + b"=" * (-len(plain) % 4), validate=True)
        except binascii.Error:
            raise error from None  # it says where the text as it was given is wrong
