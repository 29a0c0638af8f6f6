"""Writes types.d.ts: the reports that `agnes-py/python/agnes/types.py` describes, as TypeScript has them.

What the core reports has the same keys in every language; so it is described in one place.
"""

import ast
import pathlib
import sys

HERE = pathlib.Path(__file__).resolve().parent
SOURCE = HERE.parent / "agnes-py" / "python" / "agnes" / "types.py"
PLAIN = {"str": "string", "int": "number", "float": "number", "bool": "boolean", "datetime": "Date", "Any": "any"}


def type_of(node):
    """The TypeScript of an annotation."""
    match node:
        case ast.Constant(value=None):
            return "null"
        case ast.Name(id=name):
            return PLAIN.get(name, name)
        case ast.BinOp(left=left, right=right):
            return f"{type_of(left)} | {type_of(right)}"
        case ast.Subscript(value=ast.Name(id="list"), slice=item):
            of = type_of(item)
            return f"({of})[]" if "|" in of else f"{of}[]"
        case ast.Subscript(value=ast.Name(id="dict"), slice=ast.Tuple(elts=[_, value])):
            return f"Record<string, {type_of(value)}>"
        case ast.Subscript(value=ast.Name(id="Literal"), slice=words):
            words = words.elts if isinstance(words, ast.Tuple) else [words]
            return " | ".join(f"'{word.value}'" for word in words)
    raise SystemExit(f"no TypeScript for {ast.unparse(node)}")


def lines():
    yield "// Written by types.py. What the core reports: keys that only some reports have are optional."
    words = {}
    for node in ast.parse(SOURCE.read_text()).body:
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Call):
            # Words that no class can spell.
            fields = node.value.args[1]
            words[node.targets[0].id] = [
                f"  {key.value}?: {type_of(value)}" for key, value in zip(fields.keys, fields.values)
            ]
        if not isinstance(node, ast.ClassDef):
            continue
        bases = [base.id for base in node.bases if base.id not in ("TypedDict", *words)]
        text = " ".join(ast.get_docstring(node).split())
        yield ""
        yield f"/** {text} */"
        yield f"export interface {node.name}{' extends ' + ', '.join(bases) if bases else ''} {{"
        for base in node.bases:
            yield from words.get(base.id, [])
        for field in node.body:
            if isinstance(field, ast.AnnAssign):
                kind, mark = field.annotation, ""
                if isinstance(kind, ast.Subscript) and getattr(kind.value, "id", "") == "NotRequired":
                    kind, mark = kind.slice, "?"
                yield f"  {field.target.id}{mark}: {type_of(kind)}"
        yield "}"


text = "\n".join(lines()) + "\n"
to = HERE / "types.d.ts"
if sys.argv[1:] == ["--check"]:
    sys.exit(0 if to.read_text() == text else "types.d.ts is not what types.py writes: run it")
to.write_text(text)
