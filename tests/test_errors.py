"""What other packages say, within our own messages."""

from hypothesis import given
from hypothesis import strategies as st

from trainer.errors import LONGEST, first_line, in_short


@given(st.text() | st.binary(max_size=400).map(repr) | st.text(min_size=200, max_size=400))
def test_another_packages_message_is_one_line_that_is_not_too_long(text):
    for said in (in_short(text), first_line(ValueError(text))):
        assert len(said) <= LONGEST
        assert said.isprintable()


def test_a_short_message_stays_and_a_long_quotation_goes():
    told = "'utf-8' codec can't decode byte 0xff in position 0: it isn't valid"
    assert in_short(told) == told
    assert in_short(f"the name 'a' and the header {b'x' * 60!r} differ") == "the name 'a' and the header … differ"
