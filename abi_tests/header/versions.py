# abi_tests/header/versions.py: makes the header of an older, a newer or a broken library out of
# rcore.h.
"""versions.py older HEADER CC KEEP... > out   drops the last fields of every extensible struct, as
                                               many as leave a struct without padding and are not
                                               named in the files KEEP
versions.py newer HEADER CC > out             appends to every extensible struct and enum, adds a
                                              function
versions.py break-KIND HEADER CC > out        one ABI break, for tests of the checkers themselves
                                              (see BREAKS)

Until there are two releases these stand for the other side: a consumer built with the older header
on this library, and a consumer built with the newer one on this library.
"""
import re
import sys

import layout
import model

NEWER_FIELD = "newer_field"


def struct_body(text, name):
    """(start, end) of what stands between the braces of a typedef struct."""
    start = re.search(r"typedef struct %s \{\n" % name, text).end()
    return start, text.index("} %s;" % name, start)


def drop_fields(text, name, fields):
    start, end = struct_body(text, name)
    body = re.sub(r"/\*.*?\*/", "", text[start:end], flags=re.S)
    for field in fields:
        body, n = re.subn(r"[^;]*?[ *(]%s(\)\([^;]*|\[\w+\])?;" % field, "", body, count=1,
                          flags=re.S)
        if n != 1:
            raise SystemExit("cannot drop %s.%s" % (name, field))
    return text[:start] + body + text[end:]


def extensible(header):
    return [s for s in header.structs if s.name in header.inits]


def version_macros(text, version):
    text = re.sub(r"(#define RC_HEADER_VERSION )\d+u", r"\g<1>%du" % version, text)
    return re.sub(r"(#define RC_TARGET_VERSION )\d+u", r"\g<1>%du" % version, text)


def header_version(text):
    return int(re.search(r"#define RC_HEADER_VERSION (\d+)u", text).group(1))


def older(text, header, facts, keep):
    words = set(re.findall(r"\w+", re.sub(r"/\*.*?\*/", "", keep, flags=re.S)))
    for s in extensible(header):
        offset = {f.name: int(re.match(r"offset (\d+)",
                                       facts["field", "%s.%s" % (s.name, f.name)]).group(1))
                  for f in s.fields}
        drop, pending = [], []
        for f in reversed(s.fields[1:]):
            if f.name in words or f.name == "target_version":
                break
            pending.append(f.name)
            if offset[f.name] % 8 == 0:  # only there a struct ends without padding
                drop += pending
                pending = []
        text = drop_fields(text, s.name, drop)
    return text


def newer(text, header):
    version = header_version(text) + 1
    for s in extensible(header):
        _, end = struct_body(text, s.name)
        text = text[:end] + "  uint64_t %s;\n" % NEWER_FIELD + text[end:]
    for e in header.enums:
        last = e.values[-1]
        text = re.sub(r"(\b%s = 0x7fffffff)" % last,
                      "%s_NEWER = 0x3fffffff,\n  \\1" % last.replace("_FORCE32", ""), text)
    added = ("#if RC_TARGET_VERSION >= %du\n"
             "RC_FN rc_newer_call(rc_context* context) RC_NOEXCEPT;\n#endif\n\n" % version)
    at = text.rindex("#if defined(__cplusplus)")
    return version_macros(text[:at] + added + text[at:], version)


def insert_field(text):
    return text.replace("  rc_module* module;\n  rc_step* step;",
                        "  rc_module* module;\n  uint64_t inserted;\n  rc_step* step;", 1)


BREAKS = {
    "break-insert": insert_field,
    "break-renumber": lambda t: t.replace("RC_EVENT_SAVE = 2", "RC_EVENT_SAVE = 3").replace(
        "RC_EVENT_ALLOC = 3", "RC_EVENT_ALLOC = 2"),
    "break-remove": lambda t: re.sub(r"RC_FN rc_region_wants\([^;]*;", "", t),
    "break-parameter": lambda t: t.replace("rc_region_wants(rc_region* region, uint32_t slot)",
                                           "rc_region_wants(rc_region* region, uint64_t slot)"),
    "break-callback": lambda t: t.replace(
        "rc_status(RC_CALL* drop)(const rc_slot_args* args);",
        "rc_status(RC_CALL* drop)(const rc_slot_args* args, int64_t more);"),
    "break-flag": lambda t: t.replace("RC_CONTEXT_VERIFY = 0x02", "RC_CONTEXT_VERIFY = 0x08"),
    "break-tag": lambda t: t.replace("RC_DEFINE_INIT(rc_rng, RC_TYPE_RNG)",
                                     "RC_DEFINE_INIT(rc_rng, RC_TYPE_STATS)"),
    "break-shrink": lambda t: t.replace("  void* user_data;\n} rc_region_info;",
                                        "} rc_region_info;"),
    "break-type": lambda t: t.replace("double epsilon; ", "int64_t epsilon; "),
}


def main(argv):
    kind, path, compiler = argv[1:4]
    with open(path) as f:
        text = f.read()
    header = model.read(path, compiler)
    if kind == "older":
        keep = "".join(open(name).read() for name in argv[4:])
        result = older(text, header, layout.table(layout.dump(path, compiler)), keep)
    elif kind == "newer":
        result = newer(text, header)
    else:
        result = BREAKS[kind](text)
    if result == text:
        raise SystemExit("versions.py: %s found nothing to change in %s" % (kind, path))
    sys.stdout.write(result)


if __name__ == "__main__":
    main(sys.argv)
