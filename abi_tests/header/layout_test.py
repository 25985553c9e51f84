# abi_tests/header/layout_test.py: the golden table catches every kind of ABI break and lets every
# growth pass.
"""usage: layout_test.py HEADER CC"""
import os
import sys
import tempfile

import layout
import model
import versions


def facts_of(room, name, text, compiler):
    path = os.path.join(room, name + ".h")
    with open(path, "w") as f:
        f.write(text)
    return layout.table(layout.dump(path, compiler))


def main(path, compiler):
    with open(path) as f:
        text = f.read()
    header = model.read(path, compiler)
    golden = layout.table(layout.dump(path, compiler))
    wrong = []
    # The parser found everything that the text declares.
    for what, found, declared in (
            ("structs", len(header.structs),
             text.count("\ntypedef struct") - len(header.handles)
             - text.count("typedef struct rc_native_stream")),
            ("enums", len(header.enums), text.count("\ntypedef enum")),
            ("flags", len(header.flags), text.count("static const rc_flags")),
            ("functions", len(header.functions),
             text.count("\nRC_FN ") + text.count("\nRC_VOID_FN ") + text.count("\nRC_EXPORT "))):
        if found != declared:
            wrong.append("model.py reads %d %s, the text declares %d" % (found, what, declared))
    for s in header.structs:
        if s.name != "rc_head" and (s.fields[0].type != "rc_head" or s.name not in header.inits):
            wrong.append("%s has no head or no %s_init()" % (s.name, s.name))
    tags = [f.split(" ")[3] for (kind, _), f in golden.items() if kind == "struct"]
    if len(set(tags)) != len(tags):
        wrong.append("two structs share a type tag")
    with tempfile.TemporaryDirectory() as room:
        newer = facts_of(room, "newer", versions.newer(text, header), compiler)
        breaks, additions = layout.compare(golden, newer)
        if breaks or len(additions) < len(header.structs):
            wrong.append("growth is judged wrongly: %s" % breaks)
        for kind, edit in versions.BREAKS.items():
            broken = edit(text)
            if broken == text:
                wrong.append("%s finds nothing to change" % kind)
                continue
            breaks, _ = layout.compare(golden, facts_of(room, kind, broken, compiler))
            print("%-16s %s" % (kind, breaks[0] if breaks else "MISSED"))
            if not breaks:
                wrong.append("%s is not seen" % kind)
    print("\n".join(wrong) or "%d facts" % len(golden))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:3]))
