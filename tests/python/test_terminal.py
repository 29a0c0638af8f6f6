"""What a person at a terminal sees, and a program that reads a pipe doesn't."""

import os
import pty
import select
import subprocess


def on_a_terminal(command):
    """Runs a command with a terminal for its stderr; gives back what it wrote there."""
    ours, theirs = pty.openpty()
    # Wherever the tests run: a terminal has a name.
    environment = dict(os.environ, TERM="xterm-256color")
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=theirs, text=True, env=environment
    )
    os.close(theirs)
    seen = b""
    while True:
        select.select([ours], [], [], 30)
        try:
            piece = os.read(ours, 65536)
        except OSError:
            break
        if not piece:
            break
        seen += piece
    os.close(ours)
    out = process.communicate(timeout=30)[0]
    assert process.returncode == 0, seen.decode()
    return out, seen.decode()


def test_long_work_shows_a_bar_on_a_terminal_and_nothing_in_a_pipe(agnes, tmp_path):
    inbox = tmp_path / "in"
    inbox.mkdir()
    for table in range(12):
        rows = "\n".join(f"{i},{i * table}" for i in range(30000))
        (inbox / f"t{table}.csv").write_text(f"a,b\n{rows}\n")
    call = [agnes.command, "--data-dir", str(agnes.data)]
    out, seen = on_a_terminal([*call, "ingest", "s", str(inbox)])
    assert "12/12" in seen or "[====" in seen, seen
    # The bar is gone from the screen when the work is done: its line is cleared.
    bar = max(seen.rfind("]"), seen.rfind("["))
    assert "\x1b[2K" in seen, repr(seen[bar - 80:])
    assert "[=" not in out and "\x1b" not in out, out
    _, seen = on_a_terminal([*call, "rebuild"])
    assert "12/12" in seen or "[=" in seen or "[ " in seen, seen
    (inbox / "t1.csv").write_text("a,b\n1,2\n")
    done = agnes("ingest", "s", inbox)
    assert "\x1b" not in done.stdout + done.stderr
    assert "[=" not in done.stdout + done.stderr
