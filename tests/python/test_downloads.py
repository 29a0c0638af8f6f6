"""A file that a generation published is the same bytes for as long as somebody reads it."""

import hashlib
import os

import duckdb
import pytest

from test_kills import start


@pytest.mark.parametrize("way", ["replace", "rewrite", "remove"])
def test_a_slow_download_sees_one_content(agnes, way):
    folder = agnes.data / "extracts/s"
    (folder / "data").mkdir(parents=True)
    file = folder / "data/t.parquet"
    con = duckdb.connect()

    def content(version, to):
        con.execute(f"COPY (SELECT {version} AS v, hash(range + {version}) AS h FROM range(200000)) TO '{to}' (FORMAT parquet)")

    content(1, file)
    con.execute(f"ATTACH '{folder}/extract.duckdb' AS e")
    con.execute("CREATE TABLE e._meta AS SELECT 't' AS table_name")
    con.execute(f"CREATE VIEW e.t AS SELECT * FROM read_parquet('{file}')")
    con.execute("DETACH e")
    agnes("rebuild")
    [pin] = (agnes.data / "analytics/pins/s").iterdir()
    wanted = hashlib.md5(file.read_bytes()).hexdigest()
    size = file.stat().st_size
    download = hashlib.md5()
    with open(pin, "rb") as reader:
        for step in range(20):
            download.update(reader.read(size // 20))
            if step % 5 == 0:
                new = folder / "data/t.new"
                content(step + 2, new)
                if way == "replace":
                    os.rename(new, file)
                elif way == "rewrite":
                    file.write_bytes(new.read_bytes())
                    new.unlink()
                else:
                    file.unlink()
                    new.rename(file)
                rebuild = start(agnes, "rebuild")
                assert rebuild.wait() == 0, rebuild.stderr.read()
                rebuild.stderr.close()
        download.update(reader.read())
    assert download.hexdigest() == wanted
    # Whoever starts again gets the newest, under another name: no path changes its content.
    assert hashlib.md5(pin.read_bytes()).hexdigest() == wanted
    assert agnes("query", "SELECT DISTINCT v FROM t", "-f", "csv").stdout.split() == ["v", "17"]
