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
# No picture came, none can be opened, or it is not to be read: what models say who were shown none, or will not.
_NO_IMAGE = re.compile(
    r"\b(?:no|not? any) (?:image|picture|photo|file|attachment|document)s? (?:was|were|has been|have been) "
    r"(?:attached|provided|uploaded|included|shared|sent|received)"
    r"|\b(?:you )?(?:haven't|have not|didn't|did not) (?:yet )?(?:attach|provide|upload|include|share|send)\w*"
    r" (?:an|any|the|your) (?:image|picture|photo|file|attachment)"
    r"|\bplease (?:provide|upload|attach|share|send)(?: me)? (?:the|an|your) (?:image|picture|photo)\b"
    r"|\b(?:image|picture|photo) is too (?:blurry|small|dark|unclear|low)\b"
    r"|\bi (?:do not|don't|cannot|can't) (?:currently )?see (?:an|any|the|your) (?:attached )?(?:image|picture|photo)"
    r"|\bi (?:do not|don't) have the (?:ability|capability) to (?:view|see|read|process|access) "
    r"|\bunable to (?:process|view|open|load|read|access|see) (?:the|this|that|your|any) (?:image|picture|photo)"
    r"|\bi (?:must|have to) decline\b|\bi can(?:no|')t (?:do that|reproduce)\b|\bi cannot (?:do that|reproduce)\b"
    r"|\bes wurde kein (?:bild|foto|dokument) (?:bereitgestellt|angeh\u00e4ngt|hochgeladen|\u00fcbermittelt|mitgesch)"
    r"|\bist kein (?:bild|foto) angeh\u00e4ngt|\bich sehe kein (?:bild|foto)\b"
    r"|\bich bin (?:leider )?nicht in der lage\b|\bno puedo procesar\b|\u65e0\u6cd5(?:\u67e5\u770b|\u8bc6\u522b)"
)
_NO_TEXT = re.compile(
    r"(?:there is|there's|i (?:can )?see|the (?:image|page) (?:contains|has)) no (?:\w+ )?text\b.{0,40}"
    r"|the (?:image|page|picture) (?:does not|doesn't) (?:contain|have|show) any (?:\w+ )?text\b.{0,40}"
    r"|no (?:\w+ )?text(?: (?:found|detected|visible|present|in (?:the|this) (?:image|picture)))?\W*"
    r"|(?:das bild enth\u00e4lt |es gibt |auf dem bild ist )?kein(?:en)? (?:\w+ )?text"
    r"(?: (?:vorhanden|gefunden|erkennbar))?\W*"
)


def is_refusal(text: str) -> bool:
    """Whether a text may be a refusal in words, in one of the languages in which models mostly put it.

    A letter or a chat may say the same; how much is printed on the picture tells which of the two it is.
    """
    if len(text) >= _LONGEST:
        return False
    said = text.lower().replace("\u2019", "'")
    if (nothing := _NO_IMAGE.search(said)) is not None and nothing.start() < _SOON:
        return True
    for speaks, what in _REFUSALS:
        spoken = speaks.search(said)
        if spoken is not None and spoken.start() < _SOON and what.search(said, spoken.start()):
            return True
    return False


def says_no_text(text: str) -> bool:
    """Whether a transcription says in words of its own that there is nothing to be read."""
    return _NO_TEXT.fullmatch(text.lower()) is not None
