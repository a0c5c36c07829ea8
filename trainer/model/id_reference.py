"""How a value becomes an id: for programs that use an exported model.

`reader(rules)` takes the metadata's `ids`, read from JSON, and returns a function from a row (texts or None by column)
to its ids, in the order of the net's input. Times have to be written as the categories are.
"""

import re
from collections.abc import Callable, Mapping
from typing import Any

MODULUS = 1 << 64


def reader(rules: Mapping[str, Any]) -> Callable[[Mapping[str, str | None]], list[int]]:
    """A function from a row to its ids."""
    known = {}
    for rule in rules["columns"]:
        if rule["kind"] == "embedded":
            known[rule["column"]] = {text: number for number, text in enumerate(rule["categories"], rule["first"])}

    def ids(row: Mapping[str, str | None]) -> list[int]:
        found = []
        for rule in rules["columns"]:
            text = row[rule["column"]]
            text = None if text is None or text.strip() in rules["missing_texts"] else key(text.strip(), rule["form"])
            if rule["kind"] == "embedded":
                places = known[rule["column"]]
                found.append(rule["missing"] if text is None else places.get(text, rule["other"]))
            else:
                salt = rule["missing_salt"] if text is None else rule["salt"]
                found.append(rule["first"] + bucket(text or "", salt, rule["bits"], rules["hash"]))
        return found

    return ids


def key(text: str, form: str) -> str:
    """The text that all spellings of a number or a truth value share."""
    if form == "truth":
        return {"1": "true", "0": "false"}.get(text, text.lower())
    whole = re.fullmatch(r"([+-]?)0*([0-9]+)(?:\.0*)?", text)
    if form != "number":
        return text
    if whole:
        return ("-" if whole[1] == "-" and whole[2] != "0" else "") + whole[2]
    try:
        number = float(text)
    except ValueError:
        return text
    return str(int(number)) if number.is_integer() else str(number)


def bucket(text: str, salt: int, bits: int, constants: Mapping[str, Any]) -> int:
    """The first `bits` bits of the salted hash of a text."""
    found, power = 0, 1
    for byte in text.encode():
        found, power = (found + (byte + 1) * power) % MODULUS, power * constants["factor"] % MODULUS
    found = (found + salt) % MODULUS
    for factor in constants["mix"]:
        found = (found ^ found >> 33) * factor % MODULUS
    return (found ^ found >> 33) >> (64 - bits)
