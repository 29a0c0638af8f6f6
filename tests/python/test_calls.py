"""docs/calls.md: every command that it names is there. The rest of it is looked at beside the module."""

import re

from conftest import TOP


def test_every_command_of_the_table_is_there(agnes):
    table = (TOP / "docs" / "calls.md").read_text()
    commands = set(re.findall(r"`agnes ([a-z -]+?)(?: --[a-z-]+)?`", table))
    assert len(commands) > 30
    for command in sorted(commands):
        agnes(*command.split(), "--help")
