"""Foreign text on a terminal: names inside images are chosen by whoever made them."""


def printable(value: object) -> str:
    """Text that cannot move the cursor, change colours or begin a line of its own."""
    text = str(value)
    if text.isprintable():
        return text
    return "".join(one if one.isprintable() else one.encode("unicode_escape").decode() for one in text)
