"""What the documents show of Python runs, from their first line to their last; so does the notebook."""

import pathlib
import re

import nbformat
import pytest
from nbclient import NotebookClient

TOP = pathlib.Path(__file__).resolve().parents[3]
ORDERS = "id,status,amount\n1,paid,9.5\n2,open,20\n3,paid,12.25\n"


@pytest.mark.parametrize("document", ["docs/python.md", "README.md", "agnes-py/README.md"])
def test_every_snippet_of_a_document(document, tmp_path, monkeypatch):
    snippets = re.findall(r"^```python\n(.*?)^```", (TOP / document).read_text(), re.M | re.S)
    assert snippets
    monkeypatch.chdir(tmp_path)
    (tmp_path / "orders.csv").write_text(ORDERS)
    names = {}
    try:
        for snippet in snippets:
            exec(compile(snippet, document, "exec"), names)
    finally:
        if "db" in names:
            names["db"].close()


def test_the_notebook(tmp_path):
    notebook = nbformat.read(TOP / "examples" / "notebook.ipynb", as_version=4)
    shown = [cell for cell in notebook.cells if cell.cell_type == "code" and cell.outputs]
    assert len(shown) > 8, "it is committed with what it shows"
    client = NotebookClient(notebook, timeout=120, resources={"metadata": {"path": TOP / "examples"}})
    client.execute()
    kinds = {kind for cell in notebook.cells for out in cell.get("outputs", []) for kind in out.get("data", {})}
    assert {"text/html", "image/png"} <= kinds
    errors = [out for cell in notebook.cells for out in cell.get("outputs", []) if out.output_type == "stream"]
    assert not [out for out in errors if out.name == "stderr"], errors
