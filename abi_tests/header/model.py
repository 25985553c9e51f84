# abi_tests/header/model.py: reads rcore.h, after the C preprocessor, into lists of types, constants
# and functions.
"""The header keeps one declaration form for each thing, so a small parser is enough and needs no
libclang. What it cannot read is an error, and layout.py lets the C compiler judge everything it
reads."""
import collections
import re
import subprocess

Field = collections.namedtuple("Field", "name type")
Struct = collections.namedtuple("Struct", "name fields")
Enum = collections.namedtuple("Enum", "name values")
Function = collections.namedtuple("Function", "name result params")

ATTRIBUTE = re.compile(r"__attribute__\s*\(\((?:[^()]|\([^()]*\))*\)\)")


class Header:
    def __init__(self):
        self.structs, self.enums, self.functions = [], [], []
        self.flags, self.typedefs, self.handles, self.inits = [], [], [], []


def squeeze(text):
    text = re.sub(r"\s+", " ", text).strip()
    return re.sub(r"\s*\*\s*", "* ", text).replace("* *", "**").strip()


def split_top(text, separator):
    parts, depth, start = [], 0, 0
    for i, c in enumerate(text):
        depth += (c in "({[") - (c in ")}]")
        if c == separator and depth == 0:
            parts.append(text[start:i])
            start = i + 1
    parts.append(text[start:])
    return [p.strip() for p in parts if p.strip()]


def declarator(text):
    """'char name[48]' -> ('char[48]', 'name').

    Handles pointers to functions and unnamed parameters.
    """
    text = re.sub(r"\s+", " ", text).strip()
    pointer = re.match(r"^(.*?)\s*\(\s*\*\s*(\w*)\s*\)\s*\((.*)\)$", text)
    if pointer:
        result, name, params = pointer.groups()
        types = [declarator(p)[0] for p in split_top(params, ",")]
        return "%s (*)(%s)" % (squeeze(result), ", ".join(types)), name
    array = re.match(r"^(.*[\s*])(\w+)\s*((?:\[\w*\])+)$", text)
    if array:
        return squeeze(array.group(1)) + array.group(3), array.group(2)
    plain = re.match(r"^(.*[\s*])(\w+)$", text)
    if plain and plain.group(1).strip() not in ("const", "struct", "unsigned"):
        return squeeze(plain.group(1)), plain.group(2)
    return squeeze(text), ""


def own_text(path, compiler):
    """The preprocessed lines that stand in the header itself, macros expanded, attributes gone."""
    run = subprocess.run([compiler, "-E", "-x", "c", "-std=c11", path], capture_output=True,
                         text=True, check=True)
    lines, inside = [], False
    for line in run.stdout.splitlines():
        marker = re.match(r'^# \d+ "([^"]*)"', line)
        if marker:
            inside = marker.group(1) == path
        elif inside:
            lines.append(line)
    return ATTRIBUTE.sub(" ", "\n".join(lines))


def statements(text):
    """Top-level pieces; a function with a body ends with its brace."""
    start, depth, body = 0, 0, False
    for i, c in enumerate(text):
        if c == "{":
            if depth == 0:
                body = text[start:i].rstrip().endswith(")")
            depth += 1
        elif c == "}":
            depth -= 1
            if depth == 0 and body:
                yield text[start:i + 1].strip()
                start, body = i + 1, False
        elif c == ";" and depth == 0:
            yield text[start:i].strip()
            start = i + 1


def read(path, compiler="cc"):
    header = Header()
    for s in statements(own_text(path, compiler)):
        if s:
            read_statement(header, s)
    return header


def read_statement(header, s):
    enum = re.match(r"^typedef enum (\w+)\s*\{(.*)\}\s*(\w+)$", s, re.S)
    struct = re.match(r"^typedef struct (\w+)\s*\{(.*)\}\s*(\w+)$", s, re.S)
    handle = re.match(r"^typedef struct (\w+)\s+(\w+)$", s)
    flag = re.match(r"^static const rc_flags (\w+)\s*=", s)
    init = re.match(r"^static inline (\w+)\s+(\w+)_init\s*\(void\)\s*\{", s)
    function = re.match(r"^(?:extern )?([\w\s*]+?)\s*\b(rc_\w+)\s*\((.*)\)$", s, re.S)
    if enum:
        values = [v.split("=")[0].strip() for v in split_top(enum.group(2), ",")]
        header.enums.append(Enum(enum.group(3), values))
    elif struct:
        fields = [declarator(f) for f in split_top(struct.group(2), ";")]
        fields = [Field(name, type_) for type_, name in fields]
        header.structs.append(Struct(struct.group(3), fields))
    elif handle:
        header.handles.append(handle.group(2))
    elif s.startswith("typedef"):
        type_, name = declarator(s[len("typedef"):])
        header.typedefs.append(Field(name, type_))
    elif flag:
        header.flags.append(flag.group(1))
    elif init:
        header.inits.append(init.group(2))
    elif function:
        result, name, params = function.groups()
        params = [declarator(p) for p in split_top(params, ",") if p.strip() != "void"]
        header.functions.append(Function(name, squeeze(result), [Field(n, t) for t, n in params]))
    elif not re.match(r"^struct \w+$", s):
        raise SystemExit("model.py cannot read this declaration: " + s)


def pointer_to(type_):
    """The C type of a pointer to an object of that type."""
    if "(*)" in type_:
        return type_.replace("(*)", "(**)", 1)
    array = re.match(r"^(.*?)((?:\[\w*\])+)$", type_)
    return "%s (*)%s" % array.groups() if array else type_ + "*"


def signature(function):
    return "%s (%s)" % (function.result, ", ".join(p.type for p in function.params) or "void")


def named(type_, name):
    """A declaration of `name` with that type."""
    if "(*)" in type_:
        return type_.replace("(*)", "(*%s)" % name, 1)
    array = re.match(r"^(.*?)((?:\[\w*\])+)$", type_)
    return "%s %s%s" % (array.group(1), name, array.group(2)) if array else "%s %s" % (type_, name)
