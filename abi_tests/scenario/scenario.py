# abi_tests/scenario/scenario.py: one region from Python's ctypes, with structs written by hand from
# the header's text.
"""usage: scenario.py LIBRARY GOLDEN_LAYOUT"""
import ctypes as c
import sys

P, U32, I32, U64, I64, F64 = c.c_void_p, c.c_uint32, c.c_int32, c.c_uint64, c.c_int64, c.c_double


class Head(c.Structure):
    _fields_ = [("struct_size", U32), ("struct_type", I32), ("next", P)]


class Extensible(c.Structure):
    def __init__(self, **values):
        super().__init__(**values)
        self.head.struct_size, self.head.struct_type = c.sizeof(self), self.TAG


def struct(tag, *fields):
    members = {"TAG": tag, "_fields_": [("head", Head), *fields]}
    return type("Struct%d" % tag, (Extensible,), members)


ErrorInfo = struct(1, ("code", I32), ("native_domain", I32), ("native_code", I64),
                   ("region_id", U64), ("call", c.c_char * 48), ("field", c.c_char * 64),
                   ("message", c.c_char * 512))
TensorSpec = struct(7, ("data", P), ("dtype_code", c.c_uint8), ("dtype_bits", c.c_uint8),
                    ("dtype_lanes", c.c_uint16), ("ndim", I32), ("shape", c.POINTER(I64)),
                    ("strides", c.POINTER(I64)), ("device", I32), ("device_id", I32),
                    ("bytes", U64))
# Cut short on purpose, as a binding written for an older library would be: the rest reads as zero.
ContextDesc = struct(8, ("target_version", U32), ("device", I32))
PolicyRule = struct(10, ("kind", c.c_char_p), ("slot", c.c_char_p), ("role", I32),
                    ("first_layer", U32), ("n_layers", U32), ("chunk", U32),
                    ("first_microbatch", U32), ("n_microbatches", U32), ("flags", U64),
                    ("action", I32), ("tier", I32))
SlotDesc = struct(16, ("name", c.c_char_p), ("role", I32), ("reserved0", U32))
ReplayArgs = struct(17, ("context", P), ("region", P), ("module_data", P), ("region_data", P),
                    ("stream", P), ("missing", c.POINTER(U32)), ("n_missing", U32),
                    ("reserved0", U32))
REPLAY = c.CFUNCTYPE(I32, c.POINTER(ReplayArgs))
ModuleOps = struct(19, ("user_data", P), ("destroy", P), ("replay", REPLAY))
ModuleDesc = struct(21, ("kind", c.c_char_p), ("name", c.c_char_p), ("layer", U32),
                    ("n_slots", U32), ("slots", P), ("slot_stride", U32), ("n_states", U32),
                    ("states", P), ("ops", c.POINTER(ModuleOps)))
RegionDesc = struct(26, ("module", P))
Save = struct(29, ("slot", U32), ("source_slot", U32), ("tensor", P),
              ("view", c.POINTER(TensorSpec)))

N = 500
SHAPE = (I64 * 1)(N)
FLOATS = c.c_float * N


def floats(data=None):
    return TensorSpec(data=c.cast(data, P) if data is not None else None, dtype_code=2,
                      dtype_bits=32, ndim=1, shape=c.cast(SHAPE, c.POINTER(I64)))


def expect(good, what):
    if not good:
        info = ErrorInfo()
        rc.rc_error_last(c.byref(info))
        raise SystemExit("%s\n  last error: %d %s %s: %s" % (
            what, info.code, info.call, info.field, info.message))


def compute(region):
    x, y, like = floats(), floats(), floats()
    expect(rc.rc_region_view(region, 0, None, c.byref(x)) == 0, "view of x")
    expect(rc.rc_region_alloc(region, 1, c.byref(like), None, c.byref(y)) >= 0, "alloc of y")
    if y.data:
        source, target = FLOATS.from_address(x.data), FLOATS.from_address(y.data)
        for i in range(N):
            target[i] = source[i] + 0.5


def main(path):
    global rc
    rc = c.CDLL(path)
    rc.rc_status_name.restype = c.c_char_p
    for name, types in {"rc_region_view": [P, U32, P, P], "rc_region_alloc": [P, U32, P, P, P],
                        "rc_region_save": [P, P, U32, U32, P, P], "rc_region_end": [P, P],
                        "rc_region_discard": [P, P], "rc_region_release": [P, P],
                        "rc_context_release": [P], "rc_module_release": [P],
                        "rc_policy_release": [P], "rc_context_configure": [P, P],
                        "rc_policy_create_json": [c.c_char_p, U64, P],
                        "rc_module_register": [P, P, P], "rc_region_begin": [P, P, P],
                        "rc_backward_replay": [P, U32, P]}.items():
        getattr(rc, name).argtypes = types
    for name in ("rc_region_release", "rc_context_release", "rc_module_release",
                 "rc_policy_release"):
        getattr(rc, name).restype = None
    expect(rc.rc_status_name(-5) == b"RC_E_MEMORY", "rc_status_name")

    context, policy, module, region = P(), P(), P(), P()
    context_desc = ContextDesc(target_version=1000)
    expect(rc.rc_context_create(c.byref(context_desc), c.byref(context)) == 0, "context")
    rule = PolicyRule(kind=b"layernorm", action=1)
    desc = (c.c_char * 4096)()  # a newer caller's rc_policy_desc: far longer, the tail zero
    Head.from_buffer(desc).struct_size, Head.from_buffer(desc).struct_type = 4096, 11
    text = b'{"version": "not a number"}'
    expect(rc.rc_policy_create_json(text, len(text), c.byref(policy)) == -1 and not policy,
           "bad JSON is refused")
    expect(rc.rc_policy_create(c.byref(desc), c.byref(policy)) == 0,
           "a policy that keeps everything")
    rc.rc_policy_release(policy)
    policy = make_policy(rule)
    expect(rc.rc_context_configure(context, policy) == 0, "configure")
    rc.rc_policy_release(policy)

    calls = []

    def replay(args):
        calls.append(args.contents.n_missing)
        compute(P(args.contents.region))
        return 0

    callback = REPLAY(replay)
    slots = (SlotDesc * 2)(SlotDesc(name=b"x", role=1), SlotDesc(name=b"y", role=3))
    ops = ModuleOps(replay=callback)
    module_desc = ModuleDesc(kind=b"layernorm", n_slots=2, slots=c.cast(slots, P),
                             slot_stride=c.sizeof(SlotDesc), ops=c.pointer(ops))
    expect(rc.rc_module_register(context, c.byref(module_desc), c.byref(module)) == 0, "module")
    region_desc = RegionDesc(module=module)
    expect(rc.rc_region_begin(context, c.byref(region_desc), c.byref(region)) == 0, "begin")
    data = FLOATS(*range(N))
    view = floats(data)
    item = Save(slot=0, view=c.pointer(view))
    expect(rc.rc_region_save(region, c.byref(item), 1, c.sizeof(Save), None, None) >= 0, "save")
    compute(region)
    expect(rc.rc_region_end(region, None) >= 0 and rc.rc_region_discard(region, None) >= 0, "end")
    out = floats()
    expect(rc.rc_region_view(region, 1, None, c.byref(out)) == -4, "y is discarded")
    expect(rc.rc_backward_replay(c.byref(region), 1, None) >= 0 and calls == [1], "replay")
    expect(rc.rc_region_view(region, 1, None, c.byref(out)) == 0, "view of y")
    expect(list(FLOATS.from_address(out.data)) == [i + 0.5 for i in range(N)], "the bits of y")
    rc.rc_region_release(region, None)
    rc.rc_module_release(module)
    rc.rc_context_release(context)
    print("good")


def make_policy(rule):
    """rc_policy_desc is long, its middle does not matter here: the golden table has the offsets."""
    offsets = {}
    with open(sys.argv[2]) as f:
        for line in f:
            if line.startswith("field rc_policy_desc."):
                words = line.split()
                offsets[words[1].split(".")[1]] = int(words[3])
            if line.startswith("struct rc_policy_desc "):
                size = int(line.split()[-1])
    raw = (c.c_char * size)()
    Head.from_buffer(raw).struct_size, Head.from_buffer(raw).struct_type = size, 11
    U32.from_buffer(raw, offsets["num_layers"]).value = 1
    P.from_buffer(raw, offsets["rules"]).value = c.addressof(rule)
    U32.from_buffer(raw, offsets["n_rules"]).value = 1
    U32.from_buffer(raw, offsets["rule_stride"]).value = c.sizeof(rule)
    policy = P()
    expect(rc.rc_policy_create(c.byref(raw), c.byref(policy)) == 0, "policy")
    return policy


if __name__ == "__main__":
    main(sys.argv[1])
