"""Text of strangers, as a terminal or a log may have it."""


def printable(text: str) -> str:
    r"""What moves a cursor, changes its direction or is not printed is escaped; each character for itself.

    >>> printable("EXIT\n\x1b[31m")
    'EXIT\\n\\x1b[31m'
    """
    return "".join(character if character.isprintable() else repr(character)[1:-1] for character in text)
