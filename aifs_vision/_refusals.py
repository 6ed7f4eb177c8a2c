"""Does a text refuse? A model that will not answer, or sees no picture, says so of itself, in a sentence or two."""

from __future__ import annotations

import re

__all__ = ["is_refusal", "says_no_text"]

_LONGEST = 400  # characters: a page that quotes a refusal is longer
_SOON = 100  # characters in front of it: an apology, a greeting, "as an AI language model"

# Who speaks, and of what: "we cannot process your payment" stands on screenshots, "I can't help falling" in songs.
_REFUSALS = [
    (
        re.compile(r"\bi(?:'m| am)? (?:\w+ )?(?:cannot|can't|can not|unable to|not able to|won't)\b"),
        re.compile(
            r"\b(?:assist|comply|fulfil+|provide|transcribe|identify|describe|answer|request)\b"
            r"|\bhelp(?: you)?(?: with\b| identify\b|[.,!]|\W*$)"
            r"|\b(?:see|read|view|access|open|analy[sz]e|process|extract|interpret)\b.*"
            r"\b(?:images?|pictures?|photos?|documents?|files?|attachments?|text|content)\b",
            re.DOTALL,
        ),
    ),
    (
        re.compile(r"\b(?:ich (?:kann|darf)|(?:kann|darf) ich)\b(?=.*\b(?:nicht|kein\w*)\b)", re.DOTALL),
        re.compile(r"\b(?:weiter|be)?(?:helfen|unterst\u00fctzen|lesen|sehen|erkennen|arbeiten|antworten|schreiben)\b"),
    ),
    (re.compile(r"\blo siento\b"), re.compile(r"\bno puedo\b")),
    (re.compile(r"\bd\u00e9sol\u00e9e?\b"), re.compile(r"\bje ne (?:peux|suis)\b")),
    (re.compile(r"\u62b1\u6b49|\u5bf9\u4e0d\u8d77"), re.compile(r"\u65e0\u6cd5|\u4e0d\u80fd")),
]
# A transcription may well read "I can't answer the phone": there a refusal speaks of the picture, or of what was asked.
_OF_THE_TASK = re.compile(
    r"\b(?:images?|pictures?|photos?|attachments?|bild\w*|foto\w*|datei\w*|imagen|foto|images?)\b"
    r"|\b(?:assist|help|comply|fulfil+|continue)(?: you)?(?: (?:with|on))?(?: (?:that|this|your|the)(?: request)?)?\W*$"
    r"|\b(?:assist|help|comply|fulfil+)(?: you)?(?: with)? (?:that|this|your)\b|\brequests?\b|\btranscri\w+"
    r"|\b(?:dabei|damit|hierbei|anfrage)\b|\bno puedo ayudar|\bvous aider|\u65e0\u6cd5|\u4e0d\u80fd"
)
# No picture came, or none can be opened: nobody's text begins so, but that of a model which was shown nothing.
_NO_IMAGE = re.compile(
    r"\b(?:no|not? any) (?:image|picture|photo|file|attachment|document)s? (?:was|were|has been|have been) "
    r"(?:attached|provided|uploaded|included|shared|sent|received)"
    r"|\bi (?:do not|don't|cannot|can't) (?:currently )?see (?:an|any|the|your) (?:attached )?(?:image|picture|photo)"
    r"|\bi (?:do not|don't) have the (?:ability|capability) to (?:view|see|read|process|access)"
    r"|\bunable to (?:process|view|open|load|read|access|see) (?:the|this|that|your|any) (?:image|picture|photo)"
    r"|\bes wurde kein (?:bild|foto|dokument) (?:bereitgestellt|angeh\u00e4ngt|hochgeladen|\u00fcbermittelt|mitgesch)"
)
_NO_TEXT = re.compile(
    r"(?:there is|there's|i (?:can )?see|the (?:image|page) (?:contains|has)) no (?:\w+ )?text\b.{0,40}"
)


def is_refusal(text: str, *, transcribed: bool = False) -> bool:
    """Whether a text is a refusal in words, in one of the languages in which models mostly put it.

    Args:
        text: what the model said.
        transcribed: whether it was asked for the text that stands in a picture, which may be any text.
    """
    if len(text) >= _LONGEST:
        return False
    said = text.lower().replace("\u2019", "'")
    if (nothing := _NO_IMAGE.search(said)) is not None and nothing.start() < _SOON:
        return True
    if transcribed and not _OF_THE_TASK.search(said):
        return False
    for speaks, what in _REFUSALS:
        spoken = speaks.search(said)
        if spoken is not None and spoken.start() < _SOON and what.search(said, spoken.start()):
            return True
    return False


def says_no_text(text: str) -> bool:
    """Whether a transcription says in words of its own that there is nothing to be read."""
    return _NO_TEXT.fullmatch(text.lower()) is not None
